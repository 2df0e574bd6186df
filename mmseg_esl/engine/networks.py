"""Which networks a model holds."""
from __future__ import annotations

from torch import nn


def networks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, module) of student, teacher and projectors; a plain segmentor is one, named ''."""
    names = ('student', 'teacher', 'projector', 'teacher_projector')
    found = [(name, getattr(model, name, None)) for name in names]
    return [(name, module) for name, module in found if module is not None] or [('', model)]
