"""Class maps of an image classifier, and attention that spreads them (PseudoSeg, ICLR 2021)."""
from __future__ import annotations

import torch
from torch import Tensor

from .precision import at_least_float


def present_classes(labels: Tensor, num_classes: int, known: Tensor) -> Tensor:
    """Which classes an image shows: ``(N, C)`` bool.

    Args:
        labels: ``(N, H, W)`` long, in [0, C) where ``known``, ``(N, H, W)`` bool.
    """
    index = torch.where(known, labels, num_classes).flatten(1)
    seen = labels.new_zeros(len(labels), num_classes + 1)
    return seen.scatter_(1, index, 1)[:, :-1] > 0


def masked_mean(features: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels: ``(N, D, h, w)``, ``(N, h, w)`` bool -> ``(N, D)``; 0 of none."""
    weight = valid[:, None].to(features.dtype)
    return (features * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1)


@torch.no_grad()
def class_activation(features: Tensor, weight: Tensor, classes: Tensor, valid: Tensor) -> Tensor:
    """Class maps of a pooled linear classifier, each with a maximum of 1; no gradient.

    relu(w_c . f) is Grad-CAM's map up to a factor, which the maximum takes away.

    Args:
        features: ``(N, D, h, w)``, what is pooled. weight: ``(K, D)`` of the classifier.
        classes: ``(N, K)`` bool, those that count; maps of others are 0.
        valid: ``(N, h, w)`` bool; elsewhere maps are 0.

    Returns:
        ``(N, K, h, w)`` in [0, 1]. A map that is nowhere positive stays 0.
    """
    maps = torch.einsum('kd,ndhw->nkhw', weight, features).clamp(min=0)
    maps = torch.where(classes[..., None, None] & valid[:, None], maps, 0.0)
    peak = maps.amax(dim=(2, 3), keepdim=True)
    return maps / peak.clamp(min=torch.finfo(maps.dtype).tiny)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, valid: Tensor) -> Tensor:
    """Scaled dot-product attention of pixels, in which only valid ones take part.

    A pixel that is not valid attends to all pixels alike, whatever they hold.

    Args:
        query, key: ``(N, L, h, w)``. value: ``(N, K, h, w)``. valid: ``(N, h, w)`` bool.

    Returns:
        ``(N, K, h, w)``, at least float32.
    """
    query, key, value = (at_least_float(x).flatten(2) for x in (query, key, value))
    scores = query.transpose(1, 2) @ key / query.size(1) ** 0.5  # (N, hw, hw): from, to
    pairs, size = valid.flatten(1), valid.shape[-2:]
    scores = torch.where(pairs[:, :, None] & pairs[:, None, :], scores, -1e9)
    return (value @ scores.softmax(dim=2).transpose(1, 2)).unflatten(2, size)


def calibrated_fusion(first: Tensor, second: Tensor, valid: Tensor, *, share: float = 0.5,
                      temperature: float = 0.5) -> Tensor:
    """Probabilities of two decisions, brought to one scale, averaged and sharpened; no gradient.

    Both logits are divided by the root mean square of all of them, over both tensors, all images
    and classes and the valid pixels; p = share softmax(first) + (1 - share) softmax(second) is then
    raised to 1 / temperature and normalised.

    Args:
        first, second: ``(N, C, h, w)`` logits. valid: ``(N, h, w)`` bool.
        share: the paper's gamma. temperature: > 0; 1 leaves p as it is.

    Returns:
        ``(N, C, h, w)``, at least float32, sums to 1 over C.
    """
    first, second = at_least_float(first.detach()), at_least_float(second.detach())
    squares = torch.where(valid[:, None], first.square() + second.square(), 0.0).sum()
    scale = (squares / (valid.sum().clamp(min=1) * 2 * first.size(1)) + 1e-8).sqrt()
    probs = (first / scale).softmax(dim=1).lerp((second / scale).softmax(dim=1), 1 - share)
    sharp = probs ** (1 / temperature)
    return sharp / sharp.sum(dim=1, keepdim=True)
