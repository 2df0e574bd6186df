"""Connected pieces of masks, found on the device without waiting for it."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def components(mask: Tensor) -> Tensor:
    """Number each place by the piece that it belongs to; pieces touch at corners too.

    Every place points to one of its piece. In each round it takes the largest pointer around it,
    tells its old root of it, and follows its pointer twice. So the way to the root halves, and some
    log2(h w) rounds do; twice as many are taken, whatever is in the mask. A piece that winds more
    than that counts as several.

    Args:
        mask: ``(B, h, w)`` bool, h w at most 2^24 (which float32 counts exactly).

    Returns:
        ``(B, h, w)`` long: the largest row-major index of the piece's places; -1 outside.
    """
    num, height, width = mask.shape
    cells = height * width
    inside = mask.flatten(1)
    point = torch.arange(cells, device=mask.device).expand(num, cells).contiguous()
    for _ in range(2 * max(cells - 1, 1).bit_length()):
        seen = torch.where(inside, point, -1).view(num, 1, height, width).float()
        most = F.max_pool2d(seen, 3, stride=1, padding=1).long().flatten(1)
        most = torch.where(inside, torch.maximum(most, point), point)
        point = point.scatter_reduce(1, point, most, reduce='amax')
        point = torch.maximum(point, most)
        point = point.gather(1, point)
        point = point.gather(1, point)
    return torch.where(inside, point, -1).view(num, height, width)


def component_boxes(mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The box around each connected piece.

    Args:
        mask: see :func:`components`.

    Returns:
        top, bottom, left, right (exclusive at bottom and right) and whether there is such a piece,
        each ``(B, h w)``, at the index by which :func:`components` calls the piece; 0 where there
        is none.
    """
    num, height, width = mask.shape
    number = components(mask).flatten(1)
    at = number.clamp(min=0)  # places outside are written to the first index, as if they were not
    row = torch.arange(height, device=mask.device)[:, None].expand(height, width).flatten()
    col = torch.arange(width, device=mask.device).expand(height, width).flatten()
    edges = []
    for place, size in ((row, height), (col, width)):
        place = place.expand_as(number)
        outside = number < 0
        least = torch.full_like(at, size).scatter_reduce(
            1, at, torch.where(outside, size, place), reduce='amin')
        most = torch.zeros_like(at).scatter_reduce(
            1, at, torch.where(outside, 0, place + 1), reduce='amax')
        edges += [least, most]
    there = edges[1] > 0
    return (*(torch.where(there, edge, 0) for edge in edges), there)
