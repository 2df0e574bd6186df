"""What a resumed run must find again."""
