"""Looking at what the network that labels makes of images: figures and pictures."""
from .audit import PseudoLabelAudit
from .look import Look, look

__all__ = ['Look', 'PseudoLabelAudit', 'look']
