"""A uniform sample of a stream, in memory that does not grow with the stream."""
from __future__ import annotations

import math

import torch
from torch import Tensor


class Reservoir:
    """The rows with the ``limit`` smallest keys of all rows shown so far.

    With keys that are drawn independently of the rows this is a uniform sample without
    replacement, whatever the number and order of the rows (our choice; the paper clusters all).

    Args:
        limit: most rows kept, at least 1.

    Attributes:
        feats ``(n, D)``, keys ``(n,)``: what is kept, n <= limit. seen: rows shown.

    Raises:
        ValueError: a limit below 1.
    """

    def __init__(self, limit: int):
        if limit < 1:
            raise ValueError(f'a sample (PartInitHook.max_samples) has at least 1 row, got {limit}')
        self.limit, self.seen = limit, 0
        self.feats, self.keys = torch.zeros(0, 0), torch.zeros(0)

    @property
    def bound(self) -> float:
        """A row whose key is not below this need not be shown: it would not be kept."""
        return float(self.keys.max()) if len(self.keys) == self.limit else math.inf

    def add(self, feats: Tensor, keys: Tensor, seen: int) -> None:
        """Show rows ``(m, D)`` with keys ``(m,)`` in [0, 1), both on the CPU.

        Args:
            seen: number of rows they stand for; those with larger keys may be left out, if m is
                then at least ``limit`` or their keys are not below ``bound``.
        """
        self.seen += seen
        room = self.limit - len(self.keys)
        if room:
            first = feats[:room].clone(memory_format=torch.contiguous_format)
            self.feats = torch.cat([self.feats, first]) if len(self.keys) else first
            self.keys = torch.cat([self.keys, keys[:room]])
            feats, keys = feats[room:], keys[room:]
        if len(keys):
            every = torch.cat([self.keys, keys])
            kept = torch.zeros(len(every), dtype=torch.bool)
            kept[every.topk(self.limit, largest=False).indices] = True
            old, new = (~kept[:self.limit]).nonzero()[:, 0], kept[self.limit:].nonzero()[:, 0]
            self.feats[old], self.keys[old] = feats[new], keys[new]  # in place: no copy of the rest

    def sort(self) -> None:
        """Bring the rows into the order of their keys."""
        order = self.keys.argsort()
        self.feats, self.keys = self.feats[order], self.keys[order]
