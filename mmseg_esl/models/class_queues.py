"""A queue of pixel features for each class: what U2PL's anchors are pushed away from."""
from __future__ import annotations

import torch
from mmseg.registry import MODELS
from torch import Tensor

from .gathered import gather_rows
from .staged import Staged


@MODELS.register_module()
class ClassQueues(Staged):
    """FIFO queues of the features of pixels, one a class, as buffers: ``(sum of lengths, L)``.

    A step's features are looked at where they lie: nothing is written before the optimiser has
    stepped, so nothing has to be undone. Every rank ends with the same bits, those of one process
    with the images of all.

    Args:
        num_classes: C.
        channels: L, width of a feature.
        length: entries of a queue; 30000 in U2PL.
        first_length: of class 0's queue (VOC's background, the road of Cityscapes); 50000 there.

    Raises:
        ValueError: a length below 1.
    """

    def __init__(self, num_classes: int, channels: int, length: int = 30000,
                 first_length: int = 50000):
        super().__init__()
        if length < 1 or first_length < 1:
            raise ValueError('class_queues: length and first_length must be at least 1, got '
                             f'{length} and {first_length}')
        self.lengths = [first_length] + [length] * (num_classes - 1)
        self.register_buffer('queue', torch.zeros(sum(self.lengths), channels))
        self.register_buffer('pushed', torch.zeros(num_classes, dtype=torch.long))
        length = torch.tensor(self.lengths)
        self.register_buffer('length', length, persistent=False)
        self.register_buffer('start', length.cumsum(0) - length, persistent=False)
        self.rollback()

    @property
    def filled(self) -> Tensor:
        """``(C,)`` long, entries of each queue, staged ones included."""
        return self.total.minimum(self.length)

    @property
    def total(self) -> Tensor:
        """``(C,)`` long, entries that each queue has ever had, staged ones included."""
        return self.pushed if self._rows is None else self.pushed + self._enters.sum(dim=1)

    @torch.no_grad()
    def stage(self, features: Tensor, candidates: Tensor, num_labeled: int = 0) -> None:
        """Push pixels, image by image and row by row; the newest stay.

        Args:
            features: ``(B, L, h, w)``, the same B, h and w on all ranks.
            candidates: ``(B, C, h, w)`` bool, the queues that a pixel enters, any number of them.
            num_labeled: the first so many images are labelled; those of all ranks come first.
        """
        rows, enters = (x.permute(0, 2, 3, 1).flatten(1, 2) for x in (features, candidates))
        _, places, rows, enters = gather_rows(enters.any(dim=-1), num_labeled, rows, enters)
        if places is None:
            rows, enters = rows.flatten(0, 1), enters.flatten(0, 1)
        elif not len(places):  # nothing enters, on no rank
            return
        enters = enters.t()  # (C, M)
        if self._rows is not None:  # an earlier iteration of this step
            rows = torch.cat([self._rows, rows])
            enters = torch.cat([self._enters, enters], dim=1)
        self._rows, self._enters = rows, enters
        self._place = enters.flatten().cumsum(0)  # running number, through all classes
        self._before = self._place[enters.shape[1] - 1::enters.shape[1]] - enters.sum(dim=1)

    def read(self, classes: Tensor, slots: Tensor) -> Tensor:
        """Entries ``(..., L)``, staged ones included.

        Args:
            classes: long in [0, C). slots: long in [0, length of the class's queue), of the same
                shape; from ``filled`` on, zeros.
        """
        old = _rows_of(self.queue, self.start[classes] + slots)
        if self._rows is None:
            return old
        newest = self.total[classes] - 1
        number = newest - (newest - slots) % self.length[classes]  # of the entry in this slot
        fresh = number - self.pushed[classes]
        wanted = self._before[classes] + fresh + 1
        pixel = torch.searchsorted(self._place, wanted) - classes * len(self._rows)
        pixel = torch.where(fresh >= 0, pixel, 0)
        return torch.where((fresh >= 0)[..., None], _rows_of(self._rows, pixel).to(old.dtype), old)

    @torch.no_grad()
    def commit(self) -> None:
        """Write what is staged: of each queue the slots that as many pixels can have reached."""
        if self._rows is not None:
            total = self.total
            for c, length in enumerate(self.lengths):  # one at a time: all would be a second copy
                back = torch.arange(min(length, len(self._rows)), device=self.queue.device)
                slots = (total[c] - 1 - back) % length
                self.queue.index_copy_(
                    0, self.start[c] + slots, self.read(torch.full_like(slots, c), slots))
            self.pushed.copy_(total)
        self.rollback()

    def rollback(self) -> None:
        """Forget what is staged."""
        self._rows = self._enters = self._place = self._before = None


def _rows_of(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]`` of ``(N, L)``, which takes a CPU some six times as long."""
    return table.index_select(0, index.flatten()).view(*index.shape, -1)
