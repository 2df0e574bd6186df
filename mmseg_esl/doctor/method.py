"""Which method a config trains."""
from __future__ import annotations

from mmseg.registry import MODELS

from ..semi import SemiSegmentor
from ..storage.config import kind


def method_of(cfg) -> tuple:
    """``(class, semi_train_cfg)`` of a config's method; ``(None, None)`` for a plain segmentor.

    Raises:
        ValueError: its ``semi_train_cfg`` is wrong.
    """
    cls = MODELS.get(kind(cfg.model))
    if cls is None or not issubclass(cls, SemiSegmentor):
        return None, None
    return cls, cls.parse_cfg(cfg.model.get('semi_train_cfg'))
