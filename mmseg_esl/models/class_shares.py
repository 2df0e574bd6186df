"""How frequent the classes are: among labelled pixels, and as a teacher sees unlabelled ones."""
from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from .staged import Staged

FIRST = 100  # steps: as many as the decaying sums are about


class ClassShares(Staged):
    """Decaying sums over steps, on all ranks alike; buffers, so a resumed run goes on from them.

    Args:
        num_classes: C. momentum: what a step leaves of the sums, in [0, 1); 0.99 (our choice).
        spread: also learn how much labelled images differ, and what the teacher saw in its first
            100 steps, for :meth:`believed`.

    Attributes:
        labeled, predicted: ``(C,)`` float64, proportional to shares; 0 before anything was seen.
        squares, first: ``(C,)`` float64, with ``spread``: decaying sum of an image's squared
            shares; sum of those predicted in the first 100 steps.
    """

    def __init__(self, num_classes: int, momentum: float = 0.99, spread: bool = False):
        super().__init__()
        self.momentum = momentum
        self.names = ('labeled', 'predicted', 'squares', 'first')[:4 if spread else 2]
        for name in self.names:
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float64))
        self._before: dict | None = None

    @torch.no_grad()
    def see_labels(self, labels: Tensor) -> None:
        """``(N, H, W)`` long classes of labelled images; those outside [0, C) do not count."""
        num, images = len(self.labeled), len(labels)
        spare = torch.where((labels >= 0) & (labels < num), labels, num).flatten(1)
        # of one dimension: for more, older torch has no sum that is the same each time on a GPU
        places = (spare + (num + 1) * torch.arange(images, device=labels.device)[:, None]).flatten()
        counts = torch.zeros(images * (num + 1), dtype=torch.float64, device=labels.device)
        counts.scatter_add_(0, places, torch.ones_like(places, dtype=torch.float64))
        counts = counts.view(images, num + 1)[:, :num]
        if 'squares' in self.names:
            pixels = counts.sum(dim=1, keepdim=True)
            squares = (counts / pixels.clamp(min=1)).square().sum(dim=0)
            self._add('squares', squares, (pixels > 0).sum())
        self._add('labeled', counts.sum(dim=0))

    def believed(self, images: int, margin: float) -> Tensor:
        """``(C,)`` shares, of any scale, that are not refuted: those that the teacher predicts, or
        predicted at first if that is more, within ``margin`` standard errors of the labelled ones.

        A few labelled images tell a share roughly; within that, a class may grow. It may not fade:
        at first the teacher had not learnt from its own labels yet.

        Args:
            images: how many labelled images there are; 0 (not known) proves nothing. They show a
                share s to within sqrt(Var[s of an image] / images); Var is that of the crops seen,
                a little larger.
            margin: 0 believes the labelled images entirely.
        """
        seen = self.labeled.sum().clamp(min=1e-12)
        share, mean_square = self.labeled / seen, self.squares / seen
        found = torch.maximum(*(each / each.sum().clamp(min=1e-12)
                                for each in (self.predicted, self.first)))
        if not images:
            return found
        error = margin * ((mean_square - share.square()).clamp(min=0) / images).sqrt()
        return torch.minimum(torch.maximum(found, share - error), share + error).clamp(min=0)

    @torch.no_grad()
    def see_predictions(self, probs: Tensor, valid: Tensor) -> None:
        """``(N, C, H, W)`` probabilities, of which the ``(N, H, W)`` valid pixels count."""
        shares = self._add('predicted',
                           (probs * valid[:, None]).sum(dim=(0, 2, 3), dtype=torch.float64))
        if 'first' in self.names:
            self.first.add_(torch.where(self.first.sum() < FIRST - 0.5, shares, 0))

    def _add(self, name: str, counts: Tensor, divisor: Tensor | None = None) -> Tensor:
        if self._before is None:
            self._before = {each: getattr(self, each).clone() for each in self.names}
        divisor = (counts.sum() if divisor is None else divisor).to(counts)[None]
        both = torch.cat([counts, divisor])
        all_reduce(both)
        shares = both[:-1] / both[-1].clamp(min=1)  # a batch counts as much as another
        buffer = getattr(self, name)
        buffer.copy_(self.momentum * buffer + shares)
        return shares

    def commit(self) -> None:
        self._before = None

    def rollback(self) -> None:
        if self._before is not None:
            for name, value in self._before.items():
                getattr(self, name).copy_(value)
        self._before = None
