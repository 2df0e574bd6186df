"""A confidence threshold that follows the classes' most confident pixels (CorrMatch)."""
from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from .staged import Staged


class ClassThreshold(Staged):
    """Average over steps of the mean, over classes that are predicted, of their highest confidence.

    On all ranks alike. The value is updated before a step uses it; it is a buffer, so a resumed run
    goes on from it, and it goes back if the optimiser refuses the step. float32: 0.95 and the like
    do not exist in half precision.

    Args:
        start: its first value, in [0, 1]. momentum: of the average, in [0, 1].
    """

    def __init__(self, start: float = 0.85, momentum: float = 0.999):
        super().__init__()
        self.momentum = momentum
        self.register_buffer('value', torch.tensor(float(start)))
        self._before: Tensor | None = None

    @torch.no_grad()
    def update(self, labels: Tensor, confidence: Tensor, valid: Tensor,
               num_classes: int) -> Tensor:
        """Move the value by one batch and return it, a scalar.

        Args:
            labels: ``(N, H, W)`` long in [0, C). confidence: ``(N, H, W)`` in (0, 1].
            valid: ``(N, H, W)`` bool. num_classes: C.
        """
        if self._before is None:
            self._before = self.value.clone()
        highest = confidence.new_zeros(num_classes).scatter_reduce(
            0, labels.flatten(), torch.where(valid, confidence, 0.0).flatten(), 'amax')
        all_reduce(highest, op='max')
        present = highest > 0
        mean = highest.sum() / present.sum().clamp(min=1)
        moved = self.momentum * self.value + (1 - self.momentum) * mean.to(self.value.dtype)
        self.value.copy_(torch.where(present.any(), moved, self.value))
        return self.value.clone()

    def commit(self) -> None:
        self._before = None

    def rollback(self) -> None:
        if self._before is not None:
            self.value.copy_(self._before)
        self._before = None
