"""ClassMix (Olsson et al., WACV 2021): half of an image's classes are pasted on the next image."""
from __future__ import annotations

import torch
from torch import Tensor


def classmix_mask(labels: Tensor, num_classes: int, *, keys: Tensor | None = None,
                  generator: torch.Generator | None = None) -> Tensor:
    """Where the next image shows: everywhere but on half of an image's own classes.

    Of the n classes that an image shows, floor(n / 2) are chosen at random; with one class none is,
    and the next image shows everywhere.

    Args:
        labels: ``(N, H, W)`` long in [0, C); anything else is no class, and the next image shows.
        num_classes: C.
        keys: ``(N, C)`` in [0, 1), each class's lot (the smallest win); drawn if None.
        generator: of the labels' device.

    Returns:
        ``(N, H, W)`` bool, as :func:`mix` takes it.
    """
    known = (labels >= 0) & (labels < num_classes)
    index = torch.where(known, labels, num_classes).flatten(1)  # the spare class takes the rest
    there = torch.zeros(len(labels), num_classes + 1, dtype=torch.bool, device=labels.device)
    there.scatter_(1, index, True)
    there[:, num_classes] = False
    if keys is None:
        keys = torch.rand(len(labels), num_classes, generator=generator, device=labels.device)
    order = torch.cat([keys, torch.full_like(keys[:, :1], 2.0)], dim=1)
    place = torch.where(there, order, 2.0).argsort(dim=1).argsort(dim=1)  # of each class, by lot
    chosen = there & (place < there.sum(dim=1, keepdim=True) // 2)
    return ~chosen.gather(1, index).view_as(labels)
