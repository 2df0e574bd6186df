"""Contrast of pixels with classes: anchors drawn by class, one positive, many negatives (InfoNCE).

As in functional.contrast, shapes are known on the host: what does not exist is masked.
"""
from __future__ import annotations

from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .contrast import SumOverBlocks, count_each
from .running_sum import running_sum
from .thresholds import class_ranks


class PixelsByClass(NamedTuple):
    """Numbers of pixels, sorted by class.

    Args:
        order: ``(M,)`` long. start, count: ``(C,)`` long, where a class begins, how many it has.
    """
    order: Tensor
    start: Tensor
    count: Tensor

    @classmethod
    def of(cls, classes: Tensor, num_classes: int) -> PixelsByClass:
        """Sort ``(M,)`` long classes in [0, C), -1 where a pixel belongs to none."""
        group = torch.where(classes >= 0, classes, num_classes)
        count = count_each(group, num_classes + 1)
        start = count.cumsum(0) - count
        return cls(group.argsort(stable=True), start[:-1], count[:-1])

    def pick(self, classes: Tensor, draw: Tensor) -> Tensor:
        """A pixel of each wanted class, uniform, with replacement.

        Args:
            classes: long in [0, C), any shape.
            draw: float64 in [0, 1), of the same shape: each one's lot.

        Returns:
            long in [0, M), of the same shape; of an empty class any pixel.
        """
        place = self.start[classes] + (draw * self.count[classes]).long()
        return self.order[place.clamp(max=len(self.order) - 1)]


def negative_classes(logits: Tensor, classes: Tensor, keep: Tensor, num_labeled: int, *,
                     low_rank: int = 3, high_rank: int = 20) -> Tensor:
    """Classes that a pixel is a good negative of: likely mistakes, but not likely truths (U2PL).

    Args:
        logits: ``(B, C, h, w)``, or probabilities; the first ``num_labeled`` images are labelled.
        classes: ``(B, h, w)`` long, their truth (of the other images: not read).
        keep: ``(B, h, w)`` bool, pixels that are negatives of any class.
        low_rank, high_rank: an unlabelled pixel's classes from the one place to below the other;
            a labelled one's before ``low_rank``, its own left out.

    Returns:
        ``(B, C, h, w)`` bool.
    """
    ranks = class_ranks(logits)
    every = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    labeled = (ranks < low_rank) & (classes[:, None] != every)
    unlabeled = (ranks >= low_rank) & (ranks < high_rank)
    return torch.cat([labeled[:num_labeled], unlabeled[num_labeled:]]) & keep[:, None]


def confusion(means: Tensor, present: Tensor, temperature: float = 0.5) -> Tensor:
    """How often a class is taken as another's negative: the more alike, the more (ReCo's graph).

    Class k comes for class c with probability softmax over the present k != c of
    cos(m_c, m_k) / temperature.

    Args:
        means: ``(C, L)``. present: ``(C,)`` bool, classes that may be drawn.
        temperature: > 0.

    Returns:
        ``(C, C)`` float64: of each class, the sums of the probabilities up to every k; zeros where
        no other class is present.
    """
    unit = F.normalize(means, dim=1)
    own = torch.eye(len(means), dtype=torch.bool, device=means.device)
    scores = (unit @ unit.T / temperature).masked_fill(own | ~present, -torch.inf)
    return running_sum(scores.double().softmax(dim=1).nan_to_num(0.0), dim=1)


def draw_classes(sums: Tensor, draw: Tensor) -> Tensor:
    """The classes that lots fall on.

    Args:
        sums: ``(G, C)``, rows of :func:`confusion`. draw: ``(G, n)`` float64 in [0, 1).

    Returns:
        ``(G, n)`` long in [0, C); meaningless where the sums are zeros.
    """
    aims = draw * sums[:, -1:]  # rounding may leave the sum a hair below 1
    return torch.searchsorted(sums, aims, right=True).clamp(max=sums.shape[1] - 1)


def class_weights(usable: Tensor, present: Tensor, num: int,
                  divisor: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Weight of one anchor of each class: the mean of the present classes' means over anchors.

    Args:
        usable: ``(C,)`` bool, classes that are compared, with ``num`` anchors each.
        present: ``(C,)`` bool, classes that the mean is over; of fewer than two it is 0, for there
            is nothing to tell a class from.
        divisor: turns ``(C,)`` counts of anchors into divisors, for means over several processes.

    Returns:
        ``(C,)`` float64.
    """
    usable = usable & present
    used = usable * num
    used = used.clamp(min=1) if divisor is None else divisor(used)
    classes = present.sum()
    return torch.where(usable & (classes > 1), 1.0 / (classes * used).double(), 0.0)


def cosines(anchors: Tensor, keys: Tensor) -> Tensor:
    """``(G, n)`` cosines of ``(G, L)`` unit anchors with each one's own ``(G, n, L)`` keys."""
    # divided after the product: keys of unit length would be as large again
    length = torch.linalg.vector_norm(keys, dim=2).clamp(min=1e-12)
    return torch.bmm(keys, anchors[:, :, None])[..., 0] / length


def class_contrast(anchors: Tensor, positives: Tensor,
                   negatives: Callable[[Tensor, Tensor], Tensor], weights: Tensor, held: int,
                   temperature: float = 0.5) -> Tensor:
    """sum_i w_i -log(e^{a_i.p_i / t} / (e^{a_i.p_i / t} + sum_n e^{a_i.n / t})), of unit vectors.

    A few anchors at a time, so that their keys are never held together; gradients flow to the
    anchors only.

    Args:
        anchors: ``(A, L)`` float. positives: ``(A, L)``.
        negatives: gives, for ``(G, L)`` unit anchors and their ``(G,)`` long numbers, the cosines
            with each one's negatives, ``(G, n)``; see :func:`cosines`.
        weights: ``(A,)``; an anchor of weight 0 is left out, whatever it holds.
        held: vectors of width L that ``negatives`` holds for an anchor: it bounds how many
            anchors are taken at a time.
        temperature: > 0.

    Returns:
        scalar, connected to ``anchors``.

    Raises:
        ValueError: temperature <= 0.
    """
    if temperature <= 0:
        raise ValueError(f'temperature must be positive, got {temperature}')
    weights = weights.to(anchors.dtype)
    number = torch.arange(len(anchors), device=anchors.device)
    index = torch.where(weights > 0, number, len(anchors))  # the last number is nobody's

    def loss_of(mine, index, own):
        mine = F.normalize(mine[:, 0], dim=1, eps=1e-6)
        positive = (mine * F.normalize(positives[own], dim=1)).sum(dim=1) / temperature
        scores = negatives(mine, own) / temperature
        loss = F.softplus(scores.logsumexp(dim=1) - positive)  # = logsumexp(all) - positive
        return torch.where(weights[own] > 0, loss * weights[own], 0.0).sum()

    return SumOverBlocks.apply(anchors, loss_of, index[:, None], number, held)
