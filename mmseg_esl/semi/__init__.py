"""What all methods share: roles, batches, views, the frame of a step."""
from ..models.feature_tap import Tap
from ..models.supervised import connected_zero
from ..models.views import Strong, View
from ..storage.config import said, under
from . import network
from .batch import PADDING, Batch
from .roles import Role
from .segmentor import SemiSegmentor
from .train_cfg import SemiTrainCfg

__all__ = ['PADDING', 'Batch', 'Role', 'SemiSegmentor', 'SemiTrainCfg', 'Strong', 'Tap', 'View',
           'connected_zero', 'network', 'said', 'under']
