"""What a step has computed and must be finite, judged where it lies and read only when asked."""
from __future__ import annotations

import torch
from torch import Tensor


class FiniteWatch:
    """Verdicts on tensors of one optimiser step (several iterations, under accumulation).

    Off until FiniteGuardHook turns it on; it then costs one pass over each tensor and no wait for
    the device.
    """

    def __init__(self):
        self.on = False
        self.clear()

    def clear(self) -> None:
        """Forget everything: a new step begins."""
        self._seen: list[tuple[str, list[str], Tensor]] = []

    @torch.no_grad()
    def images(self, what: str, x: Tensor, samples) -> None:
        """Judge ``(B, ...)`` image by image; ``samples`` are their B data samples."""
        if self.on:
            paths = [str(s.metainfo.get('img_path', f'number {i} of the batch'))
                     for i, s in enumerate(samples)]
            self._seen.append((what, paths, x.isfinite().flatten(1).all(dim=1)))

    @torch.no_grad()
    def terms(self, what: str, terms: dict[str, Tensor]) -> None:
        """Judge named scalars."""
        if self.on and terms:
            values = torch.stack([value.detach() for value in terms.values()])
            self._seen.append((what, list(terms), values.isfinite()))

    def verdicts(self) -> list[Tensor]:
        """Bool vectors on the device, True where finite."""
        return [verdict for _, _, verdict in self._seen]

    def report(self) -> list[str]:
        """Name what was not finite, in the order of the step; waits for the device."""
        return [f'{what} {name}' for what, names, verdict in self._seen
                for name, fine in zip(names, verdict.tolist()) if not fine]
