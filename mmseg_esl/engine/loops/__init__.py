"""Loops of training and validation."""
