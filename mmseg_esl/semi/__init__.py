"""What all methods share: roles, batches, views, the frame of a step."""
from ..models.supervised import connected_zero
from . import network
from .batch import PADDING, Batch
from .network import Tap, View
from .roles import Role
from .segmentor import SemiSegmentor
from .train_cfg import SemiTrainCfg, said, under
from .views import Strong

__all__ = ['PADDING', 'Batch', 'Role', 'SemiSegmentor', 'SemiTrainCfg', 'Strong', 'Tap', 'View',
           'connected_zero', 'network', 'said', 'under']
