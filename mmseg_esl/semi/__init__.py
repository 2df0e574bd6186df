"""What all methods share: roles, batches, views, the frame of a step."""
