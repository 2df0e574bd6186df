"""Pixel-to-part contrast: anchors, positives, negatives and InfoNCE (paper Sec. 3.3).

Everything runs at shapes known on the host: what does not exist is masked, never filtered, so no
step waits for the device. 'Part' is the flat number c * K + k; a memory bank is ``queue``
``(N, S, L)`` with ``filled`` ``(N,)`` long, of which the first ``filled[n]`` slots of row n count.
"""
from __future__ import annotations

import math
from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .own_gradient import OwnGradient


def sample_anchors(classes: Tensor, num_classes: int, *, fraction: float = 0.1,
                   limit: int | None = None, keys: Tensor | None = None,
                   generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw the anchors: per class min(n, max(1, round(fraction * n))) of its n candidates.

    The 10 % is the paper's; per class, over the mini-batch and without replacement is our choice.

    Args:
        classes: ``(M,)`` long, class of each candidate pixel, -1 where it is none.
        num_classes: C.
        fraction: in (0, 1].
        limit: most anchors a class may have (our option; None = the paper's method).
        keys: ``(M,)`` float64 in [0, 1), each pixel's lot (the smallest win); drawn if None.
        generator: of the tensor's device.

    Returns:
        index ``(A,)`` long into the pixels and chosen ``(A,)`` bool, A = min(M, floor(fraction * M)
        + C); where not chosen the index is 0. Anchors come ordered by class.

    Raises:
        ValueError: ``fraction`` outside (0, 1], or ``limit`` below 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f'fraction must be in (0, 1], got {fraction}')
    if limit is not None and limit < 1:
        raise ValueError(f'limit must be at least 1 or None, got {limit}')
    total = classes.numel()
    slots = min(total, math.floor(fraction * total) + num_classes)
    group = torch.where(classes >= 0, classes, num_classes)
    counts = count_each(group, num_classes + 1)
    quota = (fraction * counts.double()).round().long().clamp(min=1, max=limit).minimum(counts)
    # not 'quota[num_classes] = 0': CUDA's host waits where it writes one number to one element
    quota = F.pad(quota[:num_classes], (0, 1))
    if keys is None:
        keys = torch.rand(total, generator=generator, device=classes.device, dtype=torch.float64)
    order = (group + keys).argsort()
    sorted_group = group[order]
    rank = torch.arange(total, device=classes.device) - (counts.cumsum(0) - counts)[sorted_group]
    chosen = rank < quota[sorted_group]
    slot = torch.where(chosen, chosen.cumsum(0) - 1, slots)  # the spare slot takes the rest
    index = order.new_zeros(slots + 1).index_put_((slot,), order)[:slots]
    taken = torch.arange(slots, device=classes.device) < chosen.sum()
    return torch.where(taken, index, 0), taken


def sample_positives(filled: Tensor, parts: Tensor, *, draw: Tensor | None = None,
                     generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """One random filled slot of each anchor's own queue (paper Sec. 3.3).

    Args:
        filled: ``(N,)`` long.
        parts: ``(A,)`` long in [0, N).
        draw: ``(A,)`` float64 in [0, 1), each anchor's lot; drawn if None.

    Returns:
        slot ``(A,)`` long and exists ``(A,)`` bool (False: the queue is empty, slot is 0).
    """
    own = filled[parts]
    if draw is None:
        draw = torch.rand(parts.shape, generator=generator, device=parts.device,
                          dtype=torch.float64)
    return (draw * own).long(), own > 0


def sample_negatives(filled: Tensor, parts: Tensor, num: int = 255, *,
                     generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Random entries of all queues but the own one, other parts of the same class included.

    The 255 is the paper's; uniform over the filled entries with replacement is our choice.

    Args:
        filled: ``(N,)`` long.
        parts: ``(G,)`` long in [0, N), whose queues are left out.
        num: entries drawn for each.

    Returns:
        part ``(G, num)``, slot ``(G, num)`` long, and exists ``(G,)`` bool (False: no other queue
        has an entry; the numbers are then within bounds but mean nothing).
    """
    end = filled.cumsum(0)
    start = end - filled
    others = end[-1] - filled[parts]
    draw = torch.rand((*parts.shape, num), generator=generator, device=parts.device,
                      dtype=torch.float64)
    flat = (draw * others[:, None]).long()
    # Entries are numbered through all queues; those from the own queue on are shifted past it.
    flat = flat + torch.where(flat >= start[parts][:, None], filled[parts][:, None], 0)
    part = torch.searchsorted(end, flat, right=True).clamp_(max=len(filled) - 1)
    slot = (flat - start[part]).minimum(filled[part] - 1).clamp_(min=0)
    return part, slot, others > 0


def part_contrast(embeddings: Tensor, classes: Tensor, parts: Tensor, chosen: Tensor,
                  queue: Tensor, filled: Tensor, num_classes: int, *, num_negatives: int = 255,
                  temperature: float = 0.5, negatives: str = 'shared',
                  positive_draw: Tensor | None = None,
                  divisor: Callable[[Tensor], Tensor] | None = None,
                  generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """L_CTR: InfoNCE of anchors against one positive and many negatives (paper Sec. 3.3).

    L_CTR = (1/C) sum_c mean_i -log(e^{z_i.z+ / t} / (e^{z_i.z+ / t} + sum_n e^{z_i.z_n / t})) over
    the anchors i of each class c, of vectors brought to length 1, with temperature t. A class
    without anchors adds zero and still counts in C (our choice).

    Args:
        embeddings: ``(A, L)`` float, student features of the anchors (gradients flow here only).
        classes: ``(A,)`` long in [0, C).
        parts: ``(A,)`` long in [0, N).
        chosen: ``(A,)`` bool; False slots are ignored whatever they hold.
        queue: ``(N, S, L)``; filled: ``(N,)`` long, see the module's docstring.
        num_classes: C.
        temperature: > 0; 0.5 in the paper.
        negatives: 'shared' = anchors of one part share one draw (same marginals, hence the same
            expectation of loss and gradient; our default), 'independent' = the paper's wording.
        positive_draw: as ``draw`` of :func:`sample_positives`.
        divisor: turns ``used`` into what each class's sum is divided by, positive numbers ``(C,)``;
            for means over several processes.

    Returns:
        scalar loss, and used ``(C,)``, the number of anchors that counted in each class.

    Raises:
        ValueError: unknown ``negatives`` or temperature <= 0.
    """
    if temperature <= 0:
        raise ValueError(f'temperature must be positive, got {temperature}')
    if negatives not in ('shared', 'independent'):
        raise ValueError(f"negatives must be 'shared' or 'independent', got {negatives!r}")
    if not len(embeddings):
        return embeddings.sum(), filled.new_zeros(num_classes)
    parts = torch.where(chosen, parts, 0)
    slot, has_positive = sample_positives(filled, parts, draw=positive_draw, generator=generator)
    blocks, negative = (_shared_blocks if negatives == 'shared' else _independent_blocks)(
        parts, chosen, filled, num_negatives, generator)
    valid = chosen & has_positive & negative.exists
    group = torch.where(valid, classes, num_classes)
    used = count_each(group, num_classes + 1)[:num_classes]
    count = used.clamp(min=1) if divisor is None else divisor(used)
    weight = 1.0 / (num_classes * count.to(embeddings.dtype))
    weight = torch.where(valid, weight[torch.where(valid, classes, 0)], 0.0)
    weight, parts, slot = _with_spare(weight), _with_spare(parts), _with_spare(slot)

    def loss_of(anchors, index, own):
        """Weighted InfoNCE of ``(G, M, L)`` anchors, whose numbers are ``index`` ``(G, M)``; each
        group has the negatives of one row ``own`` ``(G,)``."""
        anchors = F.normalize(anchors, dim=2, eps=1e-6)
        best = F.normalize(queue[parts[index], slot[index]], dim=2)
        positive = (anchors * best).sum(dim=2) / temperature
        keys = F.normalize(queue[negative.part[own], negative.slot[own]], dim=2)
        scores = torch.bmm(anchors, keys.transpose(1, 2)) / temperature
        loss = F.softplus(scores.logsumexp(dim=2) - positive)  # = logsumexp(all) - positive
        return torch.where(weight[index] > 0, loss * weight[index], 0.0).sum()

    return SumOverBlocks.apply(embeddings, loss_of, *blocks), used


class _Negatives(NamedTuple):
    """Entries drawn: part and slot ``(rows, num)``; exists ``(A,)``, whether an anchor has any."""
    part: Tensor
    slot: Tensor
    exists: Tensor


def waits_for_reads(device: torch.device) -> bool:
    """Whether the host waits for what it reads of a tensor: on every device but a CPU."""
    return device.type != 'cpu'


class SumOverBlocks(OwnGradient):
    """Sum of a loss over groups of anchors; the gradient is taken in the same pass.

    A few groups at a time: neither anchors x negatives x width nor a second copy of the anchors is
    ever held.
    """
    CELLS = 2 ** 13  # of anchors and negatives in a piece; 16 MB of float32 at width 512
    MORE = 8  # times as many on a GPU, which idles while the host begins each operation of a piece

    @staticmethod
    def forward(ctx, embeddings, loss_of, index, own, num_negatives):
        """index ``(groups, size)`` long in [0, A], where A is nobody; own ``(groups,)`` long."""
        cells = SumOverBlocks.CELLS
        if waits_for_reads(index.device):
            cells *= SumOverBlocks.MORE
        else:  # there, groups without anyone cost nothing
            some = (index < len(embeddings)).any(dim=1)
            index, own = index[some], own[some]
        groups, size = index.shape
        step = max(1, cells // (size + num_negatives))
        grad = torch.zeros_like(embeddings) if ctx.needs_input_grad[0] else None
        total = embeddings.new_zeros(())
        for first in range(0, groups, step):
            block, rows = index[first:first + step], own[first:first + step]
            real = (block < len(embeddings))[..., None]
            there = torch.where(real[..., 0], block, 0)
            anchors = torch.where(real, embeddings.detach()[there], 0.0)
            with torch.enable_grad():
                anchors.requires_grad_(grad is not None)
                loss = loss_of(anchors, block, rows)
            if grad is not None:
                slope, = torch.autograd.grad(loss, anchors)
                slope = torch.where(real, slope, 0.0).flatten(0, 1)
                grad.index_add_(0, there.flatten(), slope)  # nobody adds zeros to number 0
            total += loss.detach()
        ctx.save_for_backward(grad)
        return total


def _independent_blocks(parts, chosen, filled, num, generator):
    """Each anchor is a group of its own."""
    part, slot, exists = sample_negatives(filled, parts, num, generator=generator)
    every = torch.arange(len(parts), device=parts.device)
    index = torch.where(chosen, every, len(parts))
    return (index[:, None], every, num), _Negatives(part, slot, exists)


def _shared_blocks(parts, chosen, filled, num, generator):
    """Anchors of one part in groups of one size, so that a batched product serves them all: the
    number of groups is bounded on the host although the parts are of any size."""
    total, num_queues = len(parts), len(filled)
    every = torch.arange(num_queues, device=parts.device)
    part, slot, exists = sample_negatives(filled, every, num, generator=generator)

    size = min(64, max(16, -(-total // num_queues)))
    groups = total // size + num_queues
    group = torch.where(chosen, parts, num_queues)
    counts = count_each(group, num_queues + 1)[:num_queues]
    padded = (counts + size - 1).div(size, rounding_mode='floor')  # in groups
    last = padded.cumsum(0)
    order = group.argsort(stable=True)
    sorted_group = group[order]
    clipped = sorted_group.clamp(max=num_queues - 1)
    rank = torch.arange(total, device=parts.device) - (counts.cumsum(0) - counts)[clipped]
    place = (last - padded)[clipped] * size + rank
    place = torch.where(sorted_group < num_queues, place, groups * size)  # spare place
    index = order.new_full((groups * size + 1,), total).index_put_((place,), order)[:-1]
    owner = torch.searchsorted(last, torch.arange(groups, device=parts.device), right=True)
    return ((index.view(groups, size), owner.clamp_(max=num_queues - 1), num),
            _Negatives(part, slot, exists[parts]))


def _with_spare(x: Tensor) -> Tensor:
    """One entry more, zero, for nobody."""
    return F.pad(x, (0, 1))


def count_each(index: Tensor, num: int) -> Tensor:
    """How often each value of [0, num) occurs: bincount without its wait for the device."""
    zeros = torch.zeros(num, dtype=torch.long, device=index.device)
    return zeros.scatter_add_(0, index, torch.ones_like(index))
