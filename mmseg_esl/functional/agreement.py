"""How far several predictions of one image agree."""
from __future__ import annotations

import torch
from torch import Tensor


def mean_iou(first: Tensor, second: Tensor, num_classes: int) -> Tensor:
    """Mean IoU of two label maps, each image by itself, over the classes that either map has.

    Args:
        first, second: ``(N, H, W)`` int64 classes in [0, num_classes), no ignored pixel.

    Returns:
        ``(N, )`` float64 in [0, 1]. A class of one map alone counts as 0, one of neither not at
        all.
    """
    pairs = (first * num_classes + second).flatten(1)
    counts = torch.zeros(len(pairs), num_classes ** 2, dtype=torch.int64, device=pairs.device)
    counts.scatter_add_(1, pairs, torch.ones_like(pairs))
    counts = counts.view(-1, num_classes, num_classes)
    shared = counts.diagonal(dim1=1, dim2=2).double()
    either = counts.sum(1) + counts.sum(2) - shared
    present = (either > 0).sum(1)
    return (shared / either.clamp(min=1)).sum(1) / present


def stability(predictions: Tensor, num_classes: int) -> Tensor:
    """Agreement of the earlier predictions of an image with the last (ST++, Sec. 3.3).

    Args:
        predictions: ``(K, H, W)`` int64, of K >= 2 snapshots of one training, the last one last.

    Returns:
        The mean over k < K of ``mean_iou(M_k, M_K)``, a float64 scalar in [0, 1].
    """
    earlier = predictions[:-1]
    return mean_iou(earlier, predictions[-1:].expand_as(earlier), num_classes).mean()
