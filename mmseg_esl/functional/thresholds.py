"""How sure a prediction is, and thresholds that a batch sets for itself."""
from __future__ import annotations

import torch
from torch import Tensor

from .precision import at_least_float


def prediction_entropy(logits: Tensor) -> Tensor:
    """-sum_c p_c log p_c of each pixel, in float32 at least.

    Args:
        logits: ``(N, C, H, W)``, any real values.

    Returns:
        ``(N, H, W)`` in [0, log C], no gradient.
    """
    logs = at_least_float(logits.detach()).log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1)


def percentile(values: Tensor, share: float) -> Tensor:
    """The value below which a share of the finite values lies, between ranks by a straight line.

    As ``numpy.percentile(values, 100 * share)`` of the finite ones. How many there are is not known
    on the host, so all are sorted: topk would want the rank as a number.

    Args:
        values: any shape, float; what is not finite does not count.
        share: in [0, 1].

    Returns:
        scalar of the same dtype; inf if nothing is finite.

    Raises:
        ValueError: ``share`` outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f'share must be in [0, 1], got {share}')
    finite = values.isfinite()
    ordered = torch.where(finite, values, torch.inf).flatten().sort().values
    last = finite.sum().clamp(min=1) - 1
    rank = share * last.double()  # float32 has no room for the ranks of many pixels
    below = rank.floor().long()
    above = (below + 1).minimum(last)
    low, high = ordered.gather(0, torch.stack([below, above]))
    return low + torch.where(high > low, (rank - below).to(low.dtype) * (high - low), 0.0)


def class_ranks(logits: Tensor) -> Tensor:
    """Place of each class among a pixel's classes: 0 for the most probable one.

    Args:
        logits: ``(N, C, H, W)``, or probabilities.

    Returns:
        ``(N, C, H, W)`` long in [0, C); of equal ones the lower class comes first.
    """
    order = logits.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    return torch.empty_like(order).scatter_(1, order, places.expand_as(order))
