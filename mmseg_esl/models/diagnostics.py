"""Running means of training diagnostics that wait for no device until they are read."""
from __future__ import annotations

import torch
from torch import Tensor


class Diagnostics:
    """Sums small tensors on their device; one read gives all means since the last one."""

    def __init__(self):
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, name: str, value: Tensor) -> None:
        """Add one step's value: a scalar or a ``(C,)`` vector; left out if it is not finite."""
        value = value.detach().float()
        fine = value.isfinite().all()
        value, count = torch.where(fine, value, 0.0), fine.float()
        if name in self._sums:
            value, count = self._sums[name] + value, self._counts[name] + count
        self._sums[name], self._counts[name] = value, count

    def state_dict(self) -> dict:
        """What has been added since the last read, on the CPU."""
        return dict(sums={name: value.cpu() for name, value in self._sums.items()},
                    counts=dict(self._counts))

    def load_state_dict(self, state: dict, device) -> None:
        """Go on from a :meth:`state_dict`; ``device`` is where the sums are gathered."""
        self._sums = {name: value.to(device) for name, value in state['sums'].items()}
        self._counts = dict(state['counts'])

    def pop(self) -> dict[str, float | list[float]]:
        """Means over the steps since the last call (one device-to-host copy); then starts anew.

        A name that never had a finite value is missing.
        """
        if not self._sums:
            return {}
        names = list(self._sums)
        means = [self._sums[n] / self._counts[n].clamp(min=1) for n in names]
        counts = torch.stack([self._counts[n] for n in names])
        flat = torch.cat([counts, *(m.flatten() for m in means)]).tolist()
        counts, flat = flat[:len(names)], flat[len(names):]
        out = {}
        for name, mean, count in zip(names, means, counts):
            values, flat = flat[:mean.numel()], flat[mean.numel():]
            if count:
                out[name] = values if mean.dim() else values[0]
        self._sums, self._counts = {}, {}
        return out
