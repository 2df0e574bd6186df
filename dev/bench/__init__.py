"""What dev/benchmark.py measures, and how."""
