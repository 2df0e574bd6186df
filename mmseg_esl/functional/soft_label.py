"""Soft labels from teacher probabilities, and the cross entropy against them (paper Sec. 3.2)."""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

from .precision import at_least_float


def dynamic_soft_label(probs: Tensor, *, mass: float = 0.95) -> tuple[Tensor, Tensor]:
    """Keep each pixel's dominant classes and renormalise them (paper Sec. 3.2, DSL).

    The dominant classes are those whose probability reaches that of the last class needed for a
    cumulative probability of at least ``mass`` (ties are kept).

    Args:
        probs: ``(N, C, H, W)`` float, probabilities in [0, 1] that sum to 1 over C.
        mass: the paper's eta, in (0, 1]; 0.95 in the paper.

    Returns:
        target ``(N, C, H, W)``, same dtype, sums to 1 over C and is 0 outside the dominant set;
        size ``(N, H, W)`` long in [1, C], the number of dominant classes.

    Raises:
        ValueError: ``mass`` outside (0, 1] or ``probs`` not 4-D.
    """
    if not 0 < mass <= 1:
        raise ValueError(f'mass (eta) must be in (0, 1], got {mass}')
    _check_probs(probs)
    ordered = probs.sort(dim=1, descending=True).values
    # Number of classes strictly before the one that completes the mass; rounding may leave the
    # full sum a hair below 1, hence the clamp.
    before = (ordered.cumsum(dim=1) < mass).sum(dim=1, keepdim=True).clamp_(max=probs.size(1) - 1)
    return _keep_at_least(probs, ordered.gather(1, before))


def topk_soft_label(probs: Tensor, *, k: int = 5) -> tuple[Tensor, Tensor]:
    """Keep the k most probable classes and renormalise (paper Table 3, the 'top-5' ablation).

    Args:
        probs: as in :func:`dynamic_soft_label`.
        k: number of classes kept, >= 1; more than C keeps all. Ties at the k-th are kept.

    Returns:
        target and size as in :func:`dynamic_soft_label`.

    Raises:
        ValueError: ``k`` < 1 or ``probs`` not 4-D.
    """
    if k < 1:
        raise ValueError(f'k must be at least 1, got {k}')
    _check_probs(probs)
    kth = probs.topk(min(k, probs.size(1)), dim=1).values[:, -1:]
    return _keep_at_least(probs, kth)


def hard_label(probs: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot argmax (paper Table 2, 'hard label'); ties go to the lowest class index.

    Args and returns as in :func:`dynamic_soft_label`; size is 1 everywhere.
    """
    _check_probs(probs)
    target = torch.zeros_like(probs).scatter_(1, probs.argmax(dim=1, keepdim=True), 1.0)
    return target, torch.ones_like(probs[:, 0], dtype=torch.long)


def soft_cross_entropy(logits: Tensor, target: Tensor, valid: Tensor, *,
                       divisor: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """L_SCE = -(1/N) sum_j sum_c y*_{c,j} log p^s_{c,j} (paper Sec. 3.2).

    Computed in float32 at least. N counts the valid pixels (padding is no pixel: our choice);
    with none of them the loss is a zero that is still connected to ``logits``.

    Args:
        logits: ``(N, C, H, W)`` student logits, any real values.
        target: ``(N, C, H, W)`` in [0, 1], summing to 1 over C where valid.
        valid: ``(N, H, W)`` bool.
        divisor: turns the count of valid pixels into what their sum is divided by, a positive
            number; for means over several processes.

    Returns:
        scalar >= 0.
    """
    if logits.shape != target.shape or valid.shape != target[:, 0].shape:
        raise ValueError(f'shapes do not fit: logits {tuple(logits.shape)}, target '
                         f'{tuple(target.shape)}, valid {tuple(valid.shape)}')
    log_probs = at_least_float(logits).log_softmax(dim=1)
    per_pixel = -(target * log_probs).sum(dim=1)
    count = valid.sum()
    count = count.clamp(min=1) if divisor is None else divisor(count)
    return torch.where(valid, per_pixel, 0.0).sum() / count


def _keep_at_least(probs: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    keep = probs >= threshold
    target = probs * keep
    return target / target.sum(dim=1, keepdim=True), keep.sum(dim=1)


def _check_probs(probs: Tensor) -> None:
    if probs.dim() != 4:
        raise ValueError(f'probs must be (N, C, H, W), got shape {tuple(probs.shape)}')
