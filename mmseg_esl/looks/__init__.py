"""Looking at what the teacher makes of images: figures and pictures."""
from .audit import PseudoLabelAudit
from .look import Look, look

__all__ = ['Look', 'PseudoLabelAudit', 'look']
