"""Unsupervised part grouping (paper Sec. 3.3).

Parts are numbered flat: part k of class c is c * K + k, so that one map of integers says both;
-1 means 'no part' (pixels without a label). Features need not have the map's resolution: they are
read as if bilinearly resized to it, without ever building the resized tensor.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import at_least_float

SAME = 1 - 1e-4  # cosine of features that are equal but for rounding, that of halves too


def assign_parts(features: Tensor, labels: Tensor, prototypes: Tensor, *,
                 align_corners: bool = False, mask: Tensor | None = None) -> Tensor:
    """Part of each pixel: the prototype of its class with the highest cosine (paper Sec. 3.3).

    The features are projected on the prototypes before the products are resized: bilinear
    resizing is linear and a pixel's own norm does not move the argmax over its class's parts, so
    the result is that of resizing the features first, at a fraction of the cost.

    Args:
        features: ``(B, D, h', w')`` teacher encoder features, any real values.
        labels: ``(B, h, w)`` long, class in [0, C), anything else has no part.
        prototypes: ``(C, K, D)`` float.
        align_corners: of the bilinear resize from (h', w') to (h, w).
        mask: ``(C, K)`` bool, parts that may be chosen (None: all). A class without any has no
            part: its prototypes are yet to be seeded, see :func:`part_seeds`.

    Returns:
        ``(B, h, w)`` long in [-1, C * K).

    Raises:
        ValueError: the feature width differs from the prototypes'.
    """
    num_classes, num_parts, width = prototypes.shape
    if features.shape[1] != width:
        raise ValueError(f'features have {features.shape[1]} channels, prototypes {width}')
    unit = F.normalize(prototypes.flatten(0, 1), dim=1)
    known = (labels >= 0) & (labels < num_classes)
    classes = torch.where(known, labels, 0)
    if mask is not None:
        known = known & mask.any(dim=1)[classes]
    parts = torch.empty_like(classes)
    for b in range(len(features)):  # an image at a time bounds memory to (C * K, h, w)
        scores = torch.einsum('dhw,nd->nhw', features[b].to(unit.dtype), unit)
        if mask is not None:  # finite, so that resizing keeps it; while the grid is still coarse
            scores.masked_fill_(~mask.view(-1, 1, 1), -1e30)
        scores = _resize(scores[None], labels.shape[-2:], align_corners)[0]
        scores = scores.unflatten(0, (num_classes, num_parts))
        index = classes[b].expand(1, num_parts, *labels.shape[-2:])
        parts[b] = scores.gather(0, index)[0].argmax(dim=0)
    return torch.where(known, classes * num_parts + parts, -1)


def part_sums(features: Tensor, parts: Tensor, num: int, *,
              align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """Sum of the features over each part of each image, and the parts' pixel counts.

    A part's masked average (paper Sec. 3.3, mu and P') is sums / counts. Where the features are
    coarser than the part map, the part masks are brought to the features' grid by the transpose
    of the bilinear resize: exactly the sum over the resized features.

    Args:
        features: ``(B, L, h', w')``.
        parts: ``(B, h, w)`` long in [-1, num).
        num: number of parts, C * K.
        align_corners: of the bilinear resize from (h', w') to (h, w).

    Returns:
        sums ``(B, num, L)`` of the features' dtype, but at least float32; counts ``(B, num)``,
        same dtype, whole.
    """
    sums, counts = [], []
    like = at_least_float(features.new_empty(()))
    rows = _resize_matrix(features.shape[-2], parts.shape[-2], like, align_corners)
    cols = _resize_matrix(features.shape[-1], parts.shape[-1], like, align_corners)
    for image, part in zip(features, parts):
        image = at_least_float(image)
        masks = image.new_zeros(num + 1, *part.shape)  # the last one takes pixels of no part
        masks.scatter_(0, torch.where(part >= 0, part, num)[None], 1.0)
        masks = masks[:num]
        counts.append(masks.sum(dim=(1, 2)))
        if rows is not None:
            masks = torch.matmul(rows.T, masks)
        if cols is not None:
            masks = torch.matmul(masks, cols)
        sums.append(torch.matmul(masks.flatten(1), image.flatten(1).T))
    return torch.stack(sums), torch.stack(counts)


def update_prototypes(prototypes: Tensor, sums: Tensor, counts: Tensor, *,
                      momentum: float = 0.99) -> Tensor:
    """P <- theta * P + (1 - theta) * P', for parts that are present (paper Sec. 3.3).

    Args:
        prototypes: ``(C, K, D)``.
        sums: ``(C * K, D)`` encoder features summed over each part of the mini-batch.
        counts: ``(C * K,)`` pixels of each part; 0 leaves the prototype alone (our choice).
        momentum: the paper's theta, in [0, 1].

    Returns:
        new ``(C, K, D)`` prototypes.
    """
    mean = sums / counts.clamp(min=1)[:, None]
    old = prototypes.flatten(0, 1)
    new = torch.where(counts[:, None] > 0, momentum * old + (1 - momentum) * mean, old)
    return new.view_as(prototypes)


def part_seeds(features: Tensor, labels: Tensor, prototypes: Tensor,
               known: Tensor) -> tuple[Tensor, Tensor]:
    """A further prototype of each class, from the pixels that its prototypes describe worst.

    For a class that the labelled set lacks, which the paper does not treat (our choice). Of an
    image's pixels of a class the one with the lowest cosine to its nearest prototype is taken, with
    all that are nearer to it than to any prototype: their mean is the seed. Where a class has no
    prototype yet, that is the mean of all its pixels. Nothing is drawn.

    Args:
        features: ``(B, D, h', w')`` teacher encoder features.
        labels: ``(B, h', w')`` long, at the features' own resolution; class in [0, C), anything
            else is no pixel.
        prototypes: ``(C, K, D)``. known: ``(C, K)`` bool, those that are set.

    Returns:
        seeds ``(C, D)``, of the image with the lowest cosine; that cosine ``(C,)``, -2 for a
        class's first, +inf where there is none: the class has no pixel here, or all of its pixels
        are, but for rounding, in the direction of a prototype.
    """
    num_classes, num_parts, width = prototypes.shape
    unit = F.normalize(prototypes.flatten(0, 1), dim=1)
    seeds, scores = [], []
    for image, label in zip(features.flatten(2), labels.flatten(1)):
        image = image.to(unit.dtype)
        ones = F.normalize(image, dim=0)
        cosines = (unit @ ones).view(num_classes, num_parts, -1)
        covered = cosines.masked_fill(~known[..., None], -2.0).amax(dim=1)  # (C, pixels)
        own = label == torch.arange(num_classes, device=label.device)[:, None]
        worst, pixel = torch.where(own, covered, torch.inf).min(dim=1)
        nearer = own & (ones[:, pixel].T @ ones > covered)
        seeds.append((nearer.to(image.dtype) @ image.T)
                     / nearer.sum(dim=1, keepdim=True).clamp(min=1))
        there = (worst < SAME) & seeds[-1].isfinite().all(dim=1) & seeds[-1].any(dim=1)
        scores.append(torch.where(there, worst, torch.inf))
    return best_seeds(torch.stack(seeds), torch.stack(scores))


def best_seeds(seeds: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the best: ``(n, C, D)`` and ``(n, C)`` -> ``(C, D)`` and ``(C,)``."""
    best = (scores == scores.amin(dim=0)).to(torch.uint8).argmax(dim=0)
    classes = torch.arange(scores.shape[1], device=scores.device)
    return seeds[best, classes], scores[best, classes]


def sample_features(features: Tensor, labels: Tensor, num_classes: int, limit: int, *,
                    align_corners: bool = False, bounds: Sequence[float] | None = None,
                    generator: torch.Generator | None = None) -> list[tuple[Tensor, Tensor, int]]:
    """A random sample of each class's pixel features in one image, for the K-means start.

    Used once, before training; it may wait for the device.

    Args:
        features: ``(D, h', w')`` encoder features of the image.
        labels: ``(h, w)`` long; values outside [0, num_classes) are no pixels.
        limit: at most this many pixels a class.
        bounds: for each class, pixels whose key is not below it are left out (None: no bound). A
            sample that is full already would not take them.
        generator: CPU generator.

    Returns:
        for each class: features ``(n, D)``, random keys ``(n,)`` in [0, 1) and the number of the
        class's pixels in the image. Keeping the smallest keys over all images is a uniform sample
        without replacement over all their pixels.
    """
    height, width = labels.shape
    out = []
    for c in range(num_classes):
        pixels = (labels.flatten() == c).nonzero()[:, 0]
        total = len(pixels)
        keys = torch.rand(total, generator=generator)
        if bounds is not None:
            below = keys < bounds[c]
            pixels, keys = pixels[below.to(pixels.device)], keys[below]
        keep = keys.topk(min(limit, len(keys)), largest=False, sorted=False).indices
        chosen = pixels[keep.to(pixels.device)]
        y, x = chosen.div(width, rounding_mode='floor'), chosen % width
        if align_corners:
            grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
        else:
            grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
        picked = F.grid_sample(features[None], grid[None, None].to(features), mode='bilinear',
                               padding_mode='border', align_corners=align_corners)
        out.append((picked[0, :, 0].T, keys[keep], total))
    return out


def _resize(x: Tensor, size, align_corners: bool) -> Tensor:
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=align_corners)


def _resize_matrix(source: int, target: int, like: Tensor, align_corners: bool) -> Tensor | None:
    """(target, source) matrix of the 1-D linear resize; None where it is the identity."""
    if source == target:
        return None
    eye = torch.eye(source, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(eye, size=target, mode='linear', align_corners=align_corners)[0].T
