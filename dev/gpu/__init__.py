"""What waits for a GPU, see run.py."""
