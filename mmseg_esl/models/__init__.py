"""Parts that methods own."""
from .losses import OHEMCrossEntropyLoss
from .part_memory import PartMemory
from .projector import ESLProjector
from .strong_view import KorniaStrongView

__all__ = ['ESLProjector', 'KorniaStrongView', 'OHEMCrossEntropyLoss', 'PartMemory']
