"""Running means of training diagnostics that wait for no device until they are read."""
from __future__ import annotations

import torch
from torch import Tensor


class Diagnostics:
    """Sums small tensors on their device; one read gives all means since the last one."""

    def __init__(self):
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, name: str, value: Tensor) -> None:
        """Add one step's value: a scalar or a ``(C,)`` vector."""
        value = value.detach().float()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def pop(self) -> dict[str, float | list[float]]:
        """Means over the steps since the last call (one device-to-host copy); then starts anew."""
        if not self._sums:
            return {}
        names = list(self._sums)
        means = [self._sums[n] / self._counts[n] for n in names]
        flat = torch.cat([m.flatten() for m in means]).tolist()
        out = {}
        for name, mean in zip(names, means):
            values, flat = flat[:mean.numel()], flat[mean.numel():]
            out[name] = values if mean.dim() else values[0]
        self._sums, self._counts = {}, {}
        return out
