"""Files that are there completely or not at all, and checkpoints that load safely."""
