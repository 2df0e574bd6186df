"""Strong views that move pixels: rescaled crops and flips of whatever belongs to the pixels."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rescale_windows(num: int, size: tuple[int, int], scale: tuple[float, float], *,
                    generator: torch.Generator | None = None, device=None) -> Tensor:
    """Where each image is looked at after it has been rescaled and cropped to its old size.

    The factor is uniform in ``scale``. A larger image is cropped anywhere; a smaller one lies at
    the upper left, the rest of the window is padding (as ReCo's code has it). Drawn on the host.

    Args:
        num: number of images N. size: (H, W) in pixels. scale: least and largest factor, > 0.
        generator: CPU generator; the default one if None. device: where they are wanted.

    Returns:
        ``(N, 3)`` float: factor, and top and left of the window in pixels of the rescaled image.

    Raises:
        ValueError: a factor that is not positive, or the least above the largest.
    """
    low, high = scale
    if not 0 < low <= high:
        raise ValueError(f'scale must be two positive factors in order, got {scale}')
    draw = torch.rand(3, num, generator=generator)
    factor = low + (high - low) * draw[0]
    room = [(factor * side).floor().sub(side).clamp(min=0) for side in size]
    corner = [(lot * (space + 1)).floor() for lot, space in zip(draw[1:], room)]
    return torch.stack([factor, *corner], dim=1).to(device, non_blocking=True)


def look_through(x: Tensor, windows: Tensor, *, nearest: bool = False) -> Tensor:
    """What is seen through windows; beyond the image it is continued by reflection.

    Args:
        x: ``(N, C, H, W)`` float. windows: see :func:`rescale_windows`.
        nearest: take the nearest pixel in place of a bilinear mean, for labels and the like.

    Returns:
        like ``x``.
    """
    grid = _grid(windows, x.shape[-2:], x.dtype)
    return F.grid_sample(x, grid, mode='nearest' if nearest else 'bilinear',
                         padding_mode='reflection', align_corners=False)


def windows_inside(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """``(N, H, W)`` bool: where a window shows the image, not its continuation."""
    grid = _grid(windows, size, windows.dtype)
    return (grid.abs() <= 1).all(dim=-1)


def flip_some(x: Tensor, which: Tensor) -> Tensor:
    """Mirror the images ``(N, ..., W)`` that ``which`` ``(N,)`` bool names."""
    return torch.where(which.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


def _grid(windows: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """``(N, H, W, 2)``, x and y in [-1, 1] inside the image, of the window's pixel centres."""
    height, width = size
    factor, top, left = windows.to(dtype).T[..., None]
    rows = torch.arange(height, device=windows.device, dtype=dtype) + 0.5
    cols = torch.arange(width, device=windows.device, dtype=dtype) + 0.5
    y = (2 * (rows + top) / (factor * height) - 1)[:, :, None].expand(-1, -1, width)
    x = (2 * (cols + left) / (factor * width) - 1)[:, None, :].expand(-1, height, -1)
    return torch.stack([x, y], dim=-1)
