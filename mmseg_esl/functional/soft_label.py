"""Soft labels from teacher probabilities, and the cross entropy against them (paper Sec. 3.2)."""
from __future__ import annotations

import math
from typing import Callable, Iterator

import torch
from torch import Tensor

from .own_gradient import OwnGradient
from .precision import at_least_float
from .running_sum import running_sum


def dynamic_soft_label(probs: Tensor, *, mass: float = 0.95) -> tuple[Tensor, Tensor]:
    """Keep each pixel's dominant classes and renormalise them (paper Sec. 3.2, DSL).

    The dominant classes are those whose probability reaches delta, that of the last class needed
    for a cumulative probability of at least ``mass`` (ties are kept):
    y*_c = p_c [p_c >= delta] / sum_c' p_c' [p_c' >= delta].

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

    def last_dominant(p):
        ordered = p.sort(dim=0, descending=True).values
        # Number of classes strictly before the one that completes the mass; rounding may leave
        # the full sum a hair below 1, hence the clamp.
        before = (running_sum(ordered, dim=0) < mass).sum(dim=0, keepdim=True)
        before.clamp_(max=len(p) - 1)
        return ordered.gather(0, before)

    return _keep_from(probs, last_dominant)


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
    return _keep_from(probs, lambda p: p.topk(min(k, len(p)), dim=0).values[-1:])


def hard_label(probs: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot argmax (paper Table 2, 'hard label'); ties go to the lowest class index.

    Args and returns as in :func:`dynamic_soft_label`; size is 1 everywhere.
    """
    _check_probs(probs)
    target = torch.zeros_like(probs).scatter_(1, probs.argmax(dim=1, keepdim=True), 1.0)
    return target, torch.ones_like(probs[:, 0], dtype=torch.long)


def soft_target(probs: Tensor, kind: str = 'dsl', *, mass: float = 0.95,
                k: int = 5) -> tuple[Tensor, Tensor]:
    """The label of one of ESL's variants: 'dsl' (see ``mass``), 'topk' (see ``k``) or 'hard'.

    Args and returns as in :func:`dynamic_soft_label`.
    """
    if kind == 'dsl':
        return dynamic_soft_label(probs, mass=mass)
    return topk_soft_label(probs, k=k) if kind == 'topk' else hard_label(probs)


def label_weight(target: Tensor, confidence: Tensor, kind: str = 'confidence',
                 threshold: float = 0.95) -> Tensor:
    """How much a pixel's soft label counts (our choice; the paper's is 'none').

    Args:
        target: ``(N, C, H, W)``, as of :func:`dynamic_soft_label`.
        confidence: ``(N, H, W)`` in [0, 1], largest probability of all classes.
        kind: 'none': 1; 'confidence': that; 'certainty': 1 - H(y*) / ln C, of the soft label's
            entropy H; 'threshold': 1 from ``threshold`` on, else 0.

    Returns:
        ``(N, H, W)`` of the dtype of ``target``, in [0, 1].

    Raises:
        ValueError: another ``kind``.
    """
    if kind == 'none':
        return torch.ones_like(target[:, 0])
    if kind == 'confidence':
        return confidence.to(target.dtype)
    if kind == 'certainty':
        return 1 + torch.special.xlogy(target, target).sum(dim=1) / math.log(target.shape[1])
    if kind == 'threshold':
        return (confidence >= threshold).to(target.dtype)
    raise ValueError(f"kind must be 'none', 'confidence', 'certainty' or 'threshold', got {kind!r}")


def soft_cross_entropy(logits: Tensor, target: Tensor, valid: Tensor, *,
                       divisor: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """L_SCE = -(1/N) sum_j sum_c y*_{c,j} log p^s_{c,j} (paper Sec. 3.2).

    Computed in float32 at least. N counts the valid pixels (padding is no pixel: our choice);
    with none of them the loss is a zero that is still connected to ``logits``.

    Args:
        logits: ``(N, C, H, W)`` student logits, any real values.
        target: ``(N, C, H, W)`` in [0, 1], summing to 1 over C where valid, or to the pixel's
            weight.
        valid: ``(N, H, W)`` bool.
        divisor: turns the count of valid pixels into what their sum is divided by, a positive
            number; for means over several processes.

    Returns:
        scalar >= 0.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if logits.shape != target.shape or valid.shape != target[:, 0].shape:
        raise ValueError(f'shapes do not fit: logits {tuple(logits.shape)}, target '
                         f'{tuple(target.shape)}, valid {tuple(valid.shape)}')
    count = valid.sum()
    count = count.clamp(min=1) if divisor is None else divisor(count)
    return _SoftCrossEntropySum.apply(logits, target, valid) / count


class _SoftCrossEntropySum(OwnGradient):
    """Sum over the valid pixels; the gradient is taken in the same pass, a few rows at a time.

    So nothing of the size of the logits is held but the gradient itself: not the log-probabilities,
    nor their products with the target.
    """

    @staticmethod
    def forward(ctx, logits, target, valid):
        total = at_least_float(logits.new_zeros(()))
        grad = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for image, rows in _row_blocks(logits):
            log_probs = at_least_float(logits[image, :, rows]).log_softmax(dim=0)
            wanted, inside = target[image, :, rows], valid[image, rows]
            total += torch.where(inside, -(wanted * log_probs).sum(dim=0), 0.0).sum()
            if grad is not None:
                slope = log_probs.exp_().mul_(wanted.sum(dim=0)).sub_(wanted)
                grad[image, :, rows] = torch.where(inside, slope, 0.0)
        ctx.save_for_backward(grad)
        return total


def _keep_from(probs: Tensor, threshold: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Target and size of the classes that reach ``threshold``, a map ``(1, h, W)`` of each block
    of rows ``(C, h, W)``; one that works on a block at a time holds little beside them."""
    _check_probs(probs)
    target, size = torch.empty_like(probs), torch.empty_like(probs[:, 0], dtype=torch.long)
    for image, rows in _row_blocks(probs):
        block = probs[image, :, rows]
        keep = block >= threshold(block)
        kept = block * keep
        target[image, :, rows] = kept.div_(kept.sum(dim=0, keepdim=True))
        size[image, rows] = keep.sum(dim=0)
    return target, size


def _row_blocks(x: Tensor, blocks: int = 16, least: int = 2 ** 12) -> Iterator[tuple[int, slice]]:
    """(image, rows) of some ``blocks`` pieces of ``(N, C, H, W)``, none over more than one image
    and, but for the end of an image, none of fewer than ``least`` pixels; whatever C is."""
    num, _, height, width = x.shape
    step = min(height, max(1, -(-height * num // blocks), least // max(1, width)))
    for image in range(num):
        for row in range(0, height, step):
            yield image, slice(row, row + step)


def _check_probs(probs: Tensor) -> None:
    if probs.dim() != 4:
        raise ValueError(f'probs must be (N, C, H, W), got shape {tuple(probs.shape)}')
