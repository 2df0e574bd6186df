"""How frequent the classes are: among labelled pixels, and as a teacher sees unlabelled ones."""
from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from .staged import Staged


class ClassShares(Staged):
    """Decaying sums over steps, on all ranks alike; buffers, so a resumed run goes on from them.

    Args:
        num_classes: C. momentum: what a step leaves of the sums, in [0, 1); 0.99 (our choice).

    Attributes:
        labeled, predicted: ``(C,)`` float64, proportional to shares; 0 before anything was seen.
    """

    def __init__(self, num_classes: int, momentum: float = 0.99):
        super().__init__()
        self.momentum = momentum
        for name in ('labeled', 'predicted'):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float64))
        self._before: tuple | None = None

    @torch.no_grad()
    def see_labels(self, labels: Tensor) -> None:
        """``(N, H, W)`` long classes of labelled images; those outside [0, C) do not count."""
        num = len(self.labeled)
        spare = torch.where((labels >= 0) & (labels < num), labels, num).flatten()
        counts = torch.zeros(num + 1, dtype=torch.float64, device=labels.device)
        counts.scatter_add_(0, spare, torch.ones_like(spare, dtype=torch.float64))
        self._add('labeled', counts[:num])

    @torch.no_grad()
    def see_predictions(self, probs: Tensor, valid: Tensor) -> None:
        """``(N, C, H, W)`` probabilities, of which the ``(N, H, W)`` valid pixels count."""
        self._add('predicted', (probs * valid[:, None]).sum(dim=(0, 2, 3), dtype=torch.float64))

    def _add(self, name: str, counts: Tensor) -> None:
        if self._before is None:
            self._before = self.labeled.clone(), self.predicted.clone()
        all_reduce(counts)
        shares = counts / counts.sum().clamp(min=1)  # a batch counts as much as another
        buffer = getattr(self, name)
        buffer.copy_(self.momentum * buffer + shares)

    def commit(self) -> None:
        self._before = None

    def rollback(self) -> None:
        if self._before is not None:
            self.labeled.copy_(self._before[0])
            self.predicted.copy_(self._before[1])
        self._before = None
