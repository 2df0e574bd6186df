"""Perturbations of features, as CCT has them (Ouali et al., CVPR 2020)."""
from __future__ import annotations

import torch
from torch import Tensor


def feature_noise(z: Tensor, *, width: float = 0.3,
                  generator: torch.Generator | None = None) -> Tensor:
    """z (1 + N), N uniform in [-width, width], one ``(D, h, w)`` for the whole batch (F-Noise).

    Args:
        z: ``(B, D, h, w)``. generator: of its device; the default one if None.
    """
    draw = torch.rand(z.shape[1:], dtype=z.dtype, device=z.device, generator=generator)
    return z + z * (2 * draw - 1) * width


def feature_drop(z: Tensor, valid: Tensor, *, share: tuple[float, float] = (0.7, 0.9),
                 generator: torch.Generator | None = None) -> Tensor:
    """Without the most active places (F-Drop).

    A place stays where the mean over the channels is below u times its maximum over the image's
    valid places, with u uniform in ``share``, one for the batch. Features are meant to be those
    behind a ReLU: where that maximum is negative nothing is dropped.

    Args:
        z: ``(B, D, h, w)``. valid: ``(B, h, w)`` bool. share: range of u, in (0, 1].
        generator: of its device; the default one if None.
    """
    active = z.detach().mean(dim=1, keepdim=True)
    draw = torch.rand((), dtype=z.dtype, device=z.device, generator=generator)
    most = torch.where(valid[:, None], active, -torch.inf).amax(dim=(2, 3), keepdim=True)
    return z * (active < most * (share[0] + (share[1] - share[0]) * draw))


def guided_cutout(boxes: tuple[Tensor, ...], size: tuple[int, int], *, erase: float = 0.4,
                  min_perimeter: float = 0, generator: torch.Generator | None = None) -> Tensor:
    """Where features stay when a part of each object is cut out (G-Cutout).

    Of the box around each object one window of int(erase * height) x int(erase * width), at a
    uniform place inside, goes. Nothing waits for the device.

    Args:
        boxes: what :func:`component_boxes` gives of the foreground. size: (h, w).
        erase: in [0, 1]. min_perimeter: of a box, in places; smaller objects are left whole.
        generator: of the boxes' device; the default one if None.

    Returns:
        ``(B, h, w)`` bool, False in the windows.
    """
    (top, bottom, left, right, there), (height, width) = boxes, size
    draw = torch.rand(2, *top.shape, device=top.device, generator=generator)
    tall, wide = bottom - top, right - left
    rows, cols = (erase * tall).long(), (erase * wide).long()
    first = top + (draw[0] * (tall - rows + 1)).long()
    start = left + (draw[1] * (wide - cols + 1)).long()
    counts = there & (2 * (tall + wide) >= min_perimeter)
    # +1 and -1 at a window's corners; their running sums count the windows over each place
    edges = torch.zeros(len(top), (height + 1) * (width + 1), dtype=torch.int32, device=top.device)
    for row, col, sign in ((first, start, 1), (first, start + cols, -1),
                           (first + rows, start, -1), (first + rows, start + cols, 1)):
        edges.scatter_add_(1, row * (width + 1) + col, (sign * counts).int())
    covered = edges.view(-1, height + 1, width + 1).cumsum(1).cumsum(2)
    return covered[:, :height, :width] == 0
