"""Rows of all ranks' images, in the order in which one process with all of them would have them."""
from __future__ import annotations

import torch
from mmengine.dist import all_gather, get_world_size
from torch import Tensor

# Bytes that a rank may receive with rows that nobody wants among them. Beyond, wanted rows alone
# are sent, and the host waits for their number and places: 16 MB take longer to send than that.
WHOLE = 2 ** 24


def in_order(ranks: list[Tensor], num_labeled: int) -> Tensor:
    """``(B, ...)`` of each rank -> all ranks' first ``num_labeled`` rows, then all the others."""
    return torch.cat([x[:num_labeled] for x in ranks] + [x[num_labeled:] for x in ranks])


def gather_rows(wanted: Tensor, num_labeled: int, *values: Tensor) -> tuple:
    """Gather rows of each rank's images; the wanted ones come, others may.

    Args:
        wanted: ``(B, N)`` bool, the same shape on all ranks. num_labeled: of each rank's images,
            which come first.
        values: ``(B, N, ...)`` each.

    Returns:
        (wanted ``(W * B, N)`` of all images, places, each of the values). places: None where the
        values are ``(W * B, N, ...)``; or ``(M,)`` long, the places in ``wanted.flatten()``,
        ascending, of the M rows ``(M, ...)``, which are the wanted ones.
    """
    world, every = get_world_size(), all_gather(wanted.to(torch.uint8))
    wanted_all = in_order(every, num_labeled).bool()
    if world == 1 or world * sum(x.numel() * x.element_size() for x in values) <= WHOLE:
        return (wanted_all, None,
                *(in_order(all_gather(x.contiguous()), num_labeled) for x in values))
    numbers = torch.stack([torch.stack([x[:num_labeled].sum(), x.sum()]) for x in every]).tolist()
    mine = wanted.flatten().nonzero()[:, 0]
    places = wanted_all.flatten().nonzero()[:, 0]
    return wanted_all, places, *(_gather_packed(x.flatten(0, 1)[mine], numbers) for x in values)


def _gather_packed(rows: Tensor, numbers: list) -> Tensor:
    """All ranks' rows in order, padded on the way to the most that a rank has.

    Args:
        rows: ``(M_r, ...)`` of this rank. numbers: for each rank, how many rows are of labelled
            images, and how many there are.
    """
    most = max(total for _, total in numbers)
    if most == 0:
        return rows
    sent = rows.new_zeros(most, *rows.shape[1:])
    sent[:len(rows)] = rows
    found = all_gather(sent)
    return torch.cat([x[:labeled] for x, (labeled, _) in zip(found, numbers)]
                     + [x[labeled:total] for x, (labeled, total) in zip(found, numbers)])
