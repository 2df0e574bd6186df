"""Methods: one file a paper."""
from .esl import ESL

__all__ = ['ESL']
