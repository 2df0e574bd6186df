"""What is wrong with a checkpoint; each message is a sentence for users."""
from __future__ import annotations


class NoCheckpoint(FileNotFoundError):
    """There is no such file."""


class Unreadable(RuntimeError):
    """A file that holds no checkpoint, or none that could be used."""


class Misfit(ValueError):
    """A checkpoint that does not fit the network, or would spoil it."""
