"""Label propagation by the correlation of positions (CorrMatch).

Positions of padding neither give nor receive (our choice; the release lets them).
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .cutmix import nearest
from .precision import at_least_float

FLAT = 1e-6  # a map whose range is no larger, against its highest value, is rounding alone


def correlation_maps(one: Tensor, two: Tensor, valid: Tensor, *,
                     align_corners: bool = False) -> Tensor:
    """Softmax, over a position's partners, of the scaled products of two embeddings.

    M[i, j] = softmax_j(one_i . two_j / sqrt(C)), so rows sum to 1 and columns need not.

    Args:
        one, two: ``(N, C, h, w)``.
        valid: ``(N, H, W)`` bool, pixels that may be partners; brought to (h, w) by nearest. An
            image without any has uniform rows.
        align_corners: of the network's bilinear resizes.

    Returns:
        ``(N, h * w, h, w)`` float32 at least: for each position i a map over positions j.
    """
    a, b = at_least_float(one).flatten(2), at_least_float(two).flatten(2)
    with torch.autocast(one.device.type, enabled=False):
        products = a.transpose(1, 2) @ b / one.shape[1] ** 0.5
    padding = ~nearest(valid, one.shape[2:], align_corners).flatten(1)
    products.masked_fill_(padding[:, None], -1e30)  # finite: a row of them has a softmax
    return products.softmax(dim=2).unflatten(2, one.shape[2:])


def correlated_logits(logits: Tensor, maps: Tensor, valid: Tensor, *,
                      align_corners: bool = False) -> Tensor:
    """Logits that each position gathers by the maps: z'_j = sum_i z_i M[i, j], i valid.

    ``logits`` are detached: the gradient goes to the maps alone. The weights of a position's sum
    are a column of M, hence not those of a mean.

    Args:
        logits: ``(N, C, H, W)``. maps: ``(N, h * w, h, w)`` of :func:`correlation_maps`.
        valid: ``(N, H, W)`` bool.
        align_corners: of the bilinear resizes to (h, w) and back.

    Returns:
        ``(N, C, H, W)`` float32 at least.
    """
    small = _resize(at_least_float(logits.detach()), maps.shape[2:], align_corners)
    small = small * nearest(valid, maps.shape[2:], align_corners)[:, None]
    with torch.autocast(logits.device.type, enabled=False):
        gathered = small.flatten(2) @ maps.flatten(2)
    return _resize(gathered.unflatten(2, maps.shape[2:]), logits.shape[2:], align_corners)


@torch.no_grad()
def correlation_regions(maps: Tensor, valid: Tensor, *, num: int = 128,
                        align_corners: bool = False,
                        generator: torch.Generator | None = None) -> Tensor:
    """Where the maps of random positions lie above the middle of their range.

    Args:
        maps: ``(N, h * w, h, w)``. valid: ``(N, H, W)`` bool.
        num: positions K, drawn with replacement, the same for all images.
        align_corners: of the bilinear resize.
        generator: of the maps' device; the default one if None.

    Returns:
        ``(N, K, H, W)`` bool; all False where the map is flat or its position padding.
    """
    there = nearest(valid, maps.shape[2:], align_corners).flatten(1)
    size = valid.shape[1:]
    rows = torch.randint(maps.shape[1], (num,), device=maps.device, generator=generator)
    regions = []
    for image, inside in zip(maps, there):  # an image at a time: (K, H, W) floats are a lot
        large = _resize(image[rows][None], size, align_corners)[0]
        low, high = large.flatten(1).aminmax(dim=1)
        low, high = low[:, None, None], high[:, None, None]
        some = inside[rows][:, None, None] & (high - low > FLAT * high)
        regions.append((large - low > 0.5 * (high - low)) & some)
    return torch.stack(regions)


@torch.no_grad()
def spread_labels(labels: Tensor, keep: Tensor, regions: Tensor, threshold: Tensor,
                  num_classes: int) -> tuple[Tensor, Tensor]:
    """Give whole regions the class that rules their confident pixels, one region after another.

    A region R whose share of kept pixels reaches the threshold, and in which the most frequent
    class of the kept pixels has a share above it, takes that class everywhere and is kept. Later
    regions see what earlier ones have changed of the labels, not of what is kept (release).

    Args:
        labels: ``(N, H, W)`` long in [0, C). keep: ``(N, H, W)`` bool.
        regions: ``(N, K, H, W)`` bool. threshold: scalar. num_classes: C.

    Returns:
        labels and kept pixels, like ``labels`` and ``keep``.
    """
    labels, kept = labels.flatten(1), keep.flatten(1)
    keep, confident = kept, kept.to(torch.float32)
    for region in regions.flatten(2).unbind(dim=1):
        size = region.sum(dim=1)
        counts = confident.new_zeros(len(labels), num_classes)
        counts.scatter_add_(1, labels, torch.where(region, confident, 0.0))
        most, ruler = counts.max(dim=1)
        total = counts.sum(dim=1)
        # where nothing is kept, 0 / 0 is above no threshold
        passes = (total / size >= threshold) & (most / total > threshold)
        taken = region & passes[:, None]
        labels = torch.where(taken, ruler[:, None], labels)
        kept = kept | taken
    size = regions.shape[2:]
    return labels.unflatten(1, size), kept.unflatten(1, size)


def _resize(x: Tensor, size, align_corners: bool) -> Tensor:
    return F.interpolate(x, tuple(size), mode='bilinear', align_corners=align_corners)
