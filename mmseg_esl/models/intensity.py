"""AugSeg's strong view: a few random changes of intensity (paper: random intensity-based ones)."""
from __future__ import annotations

import math

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..functional import intensity
from .views import check_rgb

WEAKEN = (0.05, 0.95)  # factors: contrast, brightness, colour and sharpness only ever shrink


def _between(low: float, high: float):
    return lambda share: (low + (high - low) * share,)


# Each operation, and its argument as a function of a number uniform in [0, 1) (release).
OPERATIONS = {
    'identity': lambda share: (),
    'autocontrast': lambda share: (),
    'equalize': lambda share: (),
    'blur': _between(0.1, 2.0),
    'contrast': _between(*WEAKEN),
    'brightness': _between(*WEAKEN),
    'colour': _between(*WEAKEN),
    'sharpness': _between(*WEAKEN),
    'posterize': lambda share: (8 - max(1, math.ceil(4 * share)),),
    'solarize': lambda share: (256 - max(1, math.ceil(255 * share)),),
    'hue': _between(-0.5, 0.5)}


@MODELS.register_module()
class RandomIntensity(nn.Module):
    """One to three operations of random strength for each image, on its device.

    How many is uniform in 1 to ``most``; each is drawn from the pool with replacement. What to do
    is drawn on the host, so that no device is waited for. Images are rounded to 8 bits, as the
    release's are, which works on PIL images in the loader.

    Args:
        most: operations of an image at most; 3.
        operations: names of the pool (default: all eleven, see ``OPERATIONS``).

    Raises:
        ValueError: ``most`` below 1, or an operation that there is not.
    """

    def __init__(self, most: int = 3, operations=tuple(OPERATIONS)):
        super().__init__()
        unknown = [name for name in operations if name not in OPERATIONS]
        if most < 1 or unknown or not operations:
            raise ValueError(f'RandomIntensity: most must be at least 1 and operations some of '
                             f'{", ".join(OPERATIONS)}; got {most} and {tuple(operations)}')
        self.most, self.operations = most, tuple(operations)

    def draw(self, num: int, generator: torch.Generator | None = None) -> list[list[tuple]]:
        """For each of ``num`` images, (name, arguments) of each of its operations."""
        plans = []
        for first, *rest in torch.rand(num, 1 + 2 * self.most, generator=generator).tolist():
            chosen = rest[:2 * (1 + int(first * self.most))]
            names = [self.operations[int(x * len(self.operations))] for x in chosen[::2]]
            plans.append([(n, OPERATIONS[n](share)) for n, share in zip(names, chosen[1::2])])
        return plans

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in [0, 1] -> the same shape and range, multiples of 1/255.

        Raises:
            ValueError: other channels.
        """
        check_rgb(self, images)
        out = (images * 255).round().clamp(0, 255)
        for i, plan in enumerate(self.draw(len(images))):
            for name, arguments in plan:
                out[i] = getattr(intensity, name)(out[i], *arguments)
        return out / 255
