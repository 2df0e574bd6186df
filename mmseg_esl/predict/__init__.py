"""Masks for folders of images, and the segmentor as an ONNX graph."""
from .. import register  # noqa: F401 - mends the stack, before what follows imports it
from .images import Item, list_items
from .masks import Masker
from .model import config_in, from_work_dir, load_segmentor
from .pictures import Painter
from .run import Summary, predict

__all__ = ['Item', 'Masker', 'Painter', 'Summary', 'config_in', 'from_work_dir', 'list_items',
           'load_segmentor', 'predict']
