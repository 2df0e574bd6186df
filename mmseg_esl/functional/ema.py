"""Exponential moving average of one module into another of the same structure (paper Sec. 3.1)."""
from __future__ import annotations

import torch
from torch import nn


def ema_momentum(step: int, momentum: float = 0.99) -> float:
    """Momentum at update ``step`` (0, 1, ...): min(1 - 1/(step + 1), momentum); our choice.

    The first update copies the student.
    """
    return min(1 - 1 / (step + 1), momentum)


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float,
               buffers: bool = True) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, in place, without host syncs.

    Floating parameters and buffers (batch-norm statistics too) follow; integer and bool buffers
    are copied. Only presence of the same tensors in the same order is assumed.

    Args:
        teacher, student: modules of one structure, on one device.
        momentum: in [0, 1]; 0 copies.
        buffers: False: parameters alone follow, as in some releases.

    Raises:
        ValueError: momentum out of range, or different structures.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f'momentum must be in [0, 1], got {momentum}')
    mine, theirs = _tensors(teacher, buffers), _tensors(student, buffers)
    if [t.shape for t in mine] != [s.shape for s in theirs]:
        raise ValueError('teacher and student differ in structure: one must be a copy of the other')
    floats = [(t, s) for t, s in zip(mine, theirs) if t.is_floating_point()]
    others = [(t, s) for t, s in zip(mine, theirs) if not t.is_floating_point()]
    if floats:
        torch._foreach_lerp_([t for t, _ in floats], [s for _, s in floats], 1 - momentum)
    for t, s in others:
        t.copy_(s)


def _tensors(module: nn.Module, buffers: bool) -> list[torch.Tensor]:
    return [*module.parameters(), *(module.buffers() if buffers else ())]
