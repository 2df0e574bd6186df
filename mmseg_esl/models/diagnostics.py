"""Figures of training that wait for no device until they are read."""
from __future__ import annotations

import math

import torch
from torch import Tensor


class Diagnostics:
    """Keeps small tensors on their device until they are read.

    Of what is added a read gives the mean since the last one; terms are kept step by step, so that
    a log smooths them over the steps that it chooses.

    In training they are staged as the memories are: a step's values count once the optimiser has
    stepped, and those of a refused step are dropped. Until DiagnosticsHook, who reads them, sets
    ``staging``, values count at once and terms are not kept.
    """

    def __init__(self):
        self.staging = False
        self._staged: list[tuple[str, Tensor, Tensor]] = []
        self._staged_steps: list[tuple[list[str], Tensor]] = []
        self._steps: list[tuple[list[str], Tensor]] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, name: str, value: Tensor) -> None:
        """Add one step's value: a scalar or a ``(C,)`` vector; left out if it is not finite."""
        value = value.detach().float()
        fine = value.isfinite().all()
        self._staged.append((name, torch.where(fine, value, 0.0), fine.float()))
        if not self.staging:
            self.commit()

    @torch.no_grad()
    def record(self, terms: dict[str, Tensor]) -> None:
        """Keep one iteration's loss terms, scalars on one device."""
        if terms and self.staging:
            values = torch.stack([value.detach().float().reshape(()) for value in terms.values()])
            self._staged_steps.append((list(terms), values))

    @torch.no_grad()
    def commit(self) -> None:
        """The optimiser has stepped: what is staged counts."""
        for name, value, count in self._staged:
            if name in self._sums:
                value, count = self._sums[name] + value, self._counts[name] + count
            self._sums[name], self._counts[name] = value, count
        self._steps += self._staged_steps
        self.rollback()

    def rollback(self) -> None:
        """It has not: forget what is staged."""
        self._staged, self._staged_steps = [], []

    def pop_steps(self) -> list[dict[str, float]]:
        """The terms of each step since the last call (one copy to the host), finite ones only."""
        if not self._steps:
            return []
        values, out = torch.cat([v for _, v in self._steps]).tolist(), []
        for names, _ in self._steps:
            mine, values = values[:len(names)], values[len(names):]
            out.append({n: v for n, v in zip(names, mine) if math.isfinite(v)})
        self._steps = []
        return out

    def state_dict(self) -> dict:
        """What counts since the last read, on the CPU; finite values only."""
        return dict(sums={name: value.cpu() for name, value in self._sums.items()},
                    counts={name: value.cpu() for name, value in self._counts.items()},
                    steps=[_finite(names, values.cpu()) for names, values in self._steps])

    def load_state_dict(self, state: dict, device) -> None:
        """Go on from a :meth:`state_dict`; ``device`` is where the sums are gathered."""
        self._sums = {name: value.to(device) for name, value in state['sums'].items()}
        self._counts = {name: value.to(device) for name, value in state['counts'].items()}
        self._steps = [(list(names), values.to(device)) for names, values in state['steps']]

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


def _finite(names: list[str], values: Tensor) -> tuple[list[str], Tensor]:
    """Of a step's terms those that a log would show: an accuracy of no pixels may be NaN."""
    fine = values.isfinite()
    return [name for name, keep in zip(names, fine.tolist()) if keep], values[fine]
