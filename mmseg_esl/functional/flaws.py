"""Maps of where predictions are wrong, and what two networks make of them (GCT, ECCV 2020)."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import at_least_float


def not_padding(labels: Tensor, padding: int = 255) -> Tensor:
    """Pixels of ``(N, H, W)`` label maps but for last rows and last columns that hold no label.

    That is where images are padded; other pixels without a label (object borders) belong to the
    image. Bool ``(N, H, W)``.
    """
    known = labels != padding
    rows, columns = known.any(dim=2), known.any(dim=1)
    rows, columns = (x.flip(1).cumsum(dim=1).flip(1) > 0 for x in (rows, columns))
    return rows[:, :, None] & columns[:, None, :]


def gaussian_blur(maps: Tensor, size: int) -> Tensor:
    """Blur by a Gaussian of ``size`` pixels, an odd number, in two passes; edges are reflected.

    Its standard deviation is 0.3 ((size - 1) / 2 - 1) + 0.8; the weights sum to 1.

    Args:
        maps: ``(N, H, W)`` float. A size that does not fit into the image is made to.
    """
    size = min(size, 2 * min(maps.shape[-2:]) - 1)
    offset = torch.arange(size, dtype=maps.dtype, device=maps.device) - size // 2
    weight = (-offset.square() / (2 * (0.3 * ((size - 1) / 2 - 1) + 0.8) ** 2)).exp()
    weight, half = weight / weight.sum(), size // 2
    maps = F.pad(maps[:, None], (half,) * 4, mode='reflect')
    return F.conv2d(F.conv2d(maps, weight.view(1, 1, -1, 1)), weight.view(1, 1, 1, -1))[:, 0]


def _blur(maps: Tensor, share: int) -> Tensor:
    """By an odd number of pixels, the height's ``share``-th part or one more."""
    size = maps.shape[1] // share
    return gaussian_blur(maps, size + 1 - size % 2)


def _stretch(maps: Tensor, inside: Tensor, least: float = 0.0) -> Tensor:
    """Each image's values inside brought to [0, 1]; 0 outside and where none is above ``least``."""
    low = torch.where(inside, maps, torch.inf).amin(dim=(1, 2), keepdim=True)
    high = torch.where(inside, maps, -torch.inf).amax(dim=(1, 2), keepdim=True)
    stretched = (maps - low) / (high - low + 1e-9)
    return torch.where(inside & (high > least), stretched, 0.0)


@torch.no_grad()
def handle_flaws(flaws: Tensor, inside: Tensor) -> Tensor:
    """Make a detector's output comparable: blurred, in [0, 1] within each image.

    A map with no value above 0.1 becomes 0. (In the release it becomes a constant of at most 0,
    which differs where two maps are compared.)

    Args:
        flaws: ``(N, H, W)``, any real values; not changed.
        inside: ``(N, H, W)`` bool, what is no padding.

    Returns:
        ``(N, H, W)`` in [0, 1], 0 outside; float32 at least.
    """
    clipped = torch.where(inside, at_least_float(flaws).clamp(min=0), 0.0)
    return _stretch(_blur(clipped, 16), inside, least=0.1)


@torch.no_grad()
def exchange(first: Tensor, second: Tensor, threshold: float = 0.6) -> tuple[Tensor, ...]:
    """Which pixels of two networks learn from the other one, and which are bad in both.

    A flaw above ``threshold`` counts as 1; a network learns where its flaw is then the larger one.
    On a tie both keep what they say.

    Args:
        first, second: ``(N, H, W)`` handled flaws in [0, 1]. threshold: the paper's xi, 0.6.

    Returns:
        bool ``(N, H, W)``: the first learns, the second learns, both are bad.
    """
    bad = first > threshold, second > threshold
    one, two = (torch.where(b, 1.0, flaws) for b, flaws in zip(bad, (first, second)))
    return one > two, two > one, bad[0] & bad[1]


@torch.no_grad()
def flaw_target(probs: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """What the detector is to say: where, and how much, a prediction differs from the labels.

    Half the absolute difference of probabilities, blurred, spread by a 3 x 3 maximum, blurred more,
    and brought to [0, 1] within each image.

    Args:
        probs: ``(N, C, H, W)``. labels: ``(N, H, W)`` long, in [0, C) where ``known``.
        known: ``(N, H, W)`` bool; elsewhere there is no flaw (in the release, one of 1/2).

    Returns:
        ``(N, H, W)`` in [0, 1], 0 where not known; float32 at least.
    """
    probs = at_least_float(probs)
    truth = torch.where(known, labels, 0)[:, None]
    # sum_c |onehot - p| / 2, as it is for probabilities
    flaws = torch.where(known, 1 - probs.gather(1, truth)[:, 0], 0.0)
    flaws = _blur(flaws, 8)[:, None]
    flaws = F.max_pool2d(flaws, 3, stride=1, padding=1)[:, 0]
    return _stretch(_blur(flaws, 4), known)


def mean_square(errors: Tensor, keep: Tensor, valid: Tensor, divisor=None) -> Tensor:
    """Squares of ``(N, H, W)`` summed over ``keep``, divided by the number of ``valid`` pixels.

    In float32 at least; ``divisor`` as in :func:`probability_mse`.
    """
    count = valid.sum()
    count = count.clamp(min=1) if divisor is None else divisor(count)
    return torch.where(keep & valid, at_least_float(errors).square(), 0.0).sum() / count
