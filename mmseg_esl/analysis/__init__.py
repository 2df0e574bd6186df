"""Looking at what the teacher makes of images: figures and pictures."""
from .look import Look, look

__all__ = ['Look', 'look']
