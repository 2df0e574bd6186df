"""Losses that hold one prediction against another one's, per pixel."""
from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import at_least_float


def pseudo_label(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable class of each pixel and its probability, in float32 at least.

    Args:
        logits: ``(N, C, H, W)``.

    Returns:
        labels ``(N, H, W)`` long in [0, C) and confidence ``(N, H, W)`` in (0, 1], no gradient.
    """
    confidence, labels = at_least_float(logits.detach()).softmax(dim=1).max(dim=1)
    return labels, confidence


def merge_logits(first: Tensor, second: Tensor, top: int) -> Tensor:
    """Mean of two predictions, of which the second one speaks for its most likely classes alone.

    Elsewhere it repeats the first (PS-MT's code; its authors say that it steadies the start).

    Args:
        first, second: ``(N, C, H, W)`` logits.
        top: number of classes; C or more take the plain mean.

    Returns:
        ``(N, C, H, W)`` logits.
    """
    kept = second.topk(min(top, second.shape[1]), dim=1).indices
    speaks = torch.zeros_like(second, dtype=torch.bool).scatter_(1, kept, True)
    return (first + torch.where(speaks, second, first)) / 2


def pseudo_cross_entropy(logits: Tensor, labels: Tensor, keep: Tensor, valid: Tensor, *,
                         weight: Tensor | None = None,
                         divisor: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Sum of the cross entropy over the kept pixels, divided by the number of *valid* ones.

    So the loss is small while few pixels are kept (FixMatch as UniMatch's code has it). With the
    kept ones as ``valid`` too it is their mean.

    Args:
        logits: ``(N, C, H, W)``. labels: ``(N, H, W)`` long in [0, C).
        keep, valid: ``(N, H, W)`` bool; what is kept and not valid does not count.
        weight: ``(N, H, W)`` factor of each pixel's entropy, such as its confidence; None: 1.
        divisor: turns the count of valid pixels into the divisor; None: the count, at least 1.

    Returns:
        scalar >= 0; with no kept pixel a zero that is still connected to ``logits``.
    """
    count = valid.sum()
    count = count.clamp(min=1) if divisor is None else divisor(count)
    loss = F.cross_entropy(at_least_float(logits), labels, reduction='none')
    loss = loss if weight is None else loss * weight
    return torch.where(keep & valid, loss, 0.0).sum() / count


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, total: Tensor, *,
                           divisor: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Sum of the cross entropy times its pixels' weights, divided by a total.

    Args:
        logits: ``(N, C, H, W)``. labels: ``(N, H, W)`` long in [0, C), or anything at weight 0.
        weights: ``(N, H, W)`` >= 0, no gradient. total: scalar.
        divisor: turns the total into the divisor; None: the total, at least 1.

    Returns:
        scalar >= 0, connected to ``logits``.
    """
    total = total.clamp(min=1) if divisor is None else divisor(total)
    loss = F.cross_entropy(at_least_float(logits), torch.where(weights > 0, labels, 0),
                           reduction='none')
    return torch.where(weights > 0, loss * weights, 0.0).sum() / total


def probability_mse(logits: Tensor, target: Tensor, valid: Tensor, *, keep: Tensor | None = None,
                    over_classes: str = 'mean', softened: bool = False,
                    divisor: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Mean over valid pixels, and over classes, of the squared difference of probabilities.

    Args:
        logits: ``(N, C, H, W)``, of the network that learns.
        target: ``(N, C, H, W)`` logits of the one that teaches; no gradient goes there.
        valid: ``(N, H, W)`` bool.
        keep: ``(N, H, W)`` bool, valid pixels of which the sum is taken, while all of them are
            divided by; None: all.
        over_classes: 'mean' or 'sum', C times as much.
        softened: ``target`` holds probabilities already, for who has several to compare with it.
        divisor: turns the count of valid pixels into the divisor; None: the count, at least 1.

    Returns:
        scalar >= 0, connected to ``logits``.
    """
    count = valid.sum()
    count = count.clamp(min=1) if divisor is None else divisor(count)
    mine, theirs = at_least_float(logits).softmax(dim=1), at_least_float(target.detach())
    theirs = theirs if softened else theirs.softmax(dim=1)
    squares = getattr((mine - theirs).square(), over_classes)(dim=1)
    return torch.where(valid if keep is None else keep & valid, squares, 0.0).sum() / count


def probability_kl(logits: Tensor, target: Tensor, keep: Tensor, valid: Tensor, *,
                   divisor: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Sum of KL(target || softmax(logits)) over the kept pixels, by the number of *valid* ones.

    Args:
        logits: ``(N, C, H, W)``, of the network that learns.
        target: ``(N, C, H, W)`` probabilities, no gradient goes there.
        keep, valid: ``(N, H, W)`` bool; what is kept and not valid does not count.
        divisor: turns the count of valid pixels into the divisor; None: the count, at least 1.

    Returns:
        scalar >= 0, 0 where both agree, connected to ``logits``.
    """
    count = valid.sum()
    count = count.clamp(min=1) if divisor is None else divisor(count)
    target = at_least_float(target.detach())
    log_probs = at_least_float(logits).log_softmax(dim=1)
    terms = (torch.xlogy(target, target) - target * log_probs).sum(dim=1)
    return torch.where(keep & valid, terms, 0.0).sum() / count
