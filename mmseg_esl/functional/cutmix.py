"""CutMix: boxes by several laws, and one way to mix whatever belongs to the pixels."""
from __future__ import annotations

import torch
from torch import Tensor


def cutmix_mask(num: int, size: tuple[int, int], *, area: float = 0.5, prob: float = 1.0,
                generator: torch.Generator | None = None, device=None) -> Tensor:
    """One random box per image, of a fixed share of the area and random aspect (our choice).

    Drawn on the host, so that no device is waited for.

    Args:
        num: number of images N.
        size: (H, W) in pixels.
        area: share of the image inside the box, in [0, 1].
        prob: chance, one draw for all images, that there are boxes at all, in [0, 1].
        generator: CPU generator; the default one if None.
        device: where the mask is wanted.

    Returns:
        ``(N, H, W)`` bool, True inside the box; False everywhere if the draw was against boxes.

    Raises:
        ValueError: ``area`` or ``prob`` outside [0, 1].
    """
    for name, value in (('area', area), ('prob', prob)):
        if not 0 <= value <= 1:
            raise ValueError(f'{name} must be in [0, 1], got {value}')
    height, width = size
    some = torch.rand((), generator=generator) < prob
    draw = torch.rand(3, num, generator=generator)
    # Both sides must fit: the height's share lies in [area, 1], the width makes up the area.
    box_h = ((area + (1 - area) * draw[0]) * height).round() * some
    box_w = (area * height * width / box_h.clamp(min=1)).round().clamp(max=width)
    top = (draw[1] * (height - box_h + 1)).floor()
    left = (draw[2] * (width - box_w + 1)).floor()
    return _boxes(torch.stack([top, top + box_h, left, left + box_w]), size, device)


def cutmix_masks_by_image(num: int, size: tuple[int, int], *, prob: float = 0.5,
                          area: tuple[float, float] = (0.02, 0.4), ratio: float = 0.3,
                          generator: torch.Generator | None = None, device=None) -> Tensor:
    """A box for each image that draws one (the law of UniMatch's code).

    Its share of the area is uniform in ``area``. Its aspect (height over width) is uniform in
    [ratio, 1 / ratio] and its corner uniform over the image; both are drawn again until the box
    lies inside, so that squares are more frequent than long boxes. Drawn on the host, so that no
    device is waited for.

    Args:
        num: number of images N. size: (H, W) in pixels.
        prob: chance of a box, one draw an image, in [0, 1].
        area: least and largest share, in (0, 1]. ratio: in (0, 1].
        generator: CPU generator; the default one if None.
        device: where the mask is wanted.

    Returns:
        ``(N, H, W)`` bool, True inside the box.

    Raises:
        ValueError: ``prob`` outside [0, 1], or images so long that the largest box never fits.
    """
    if not 0 <= prob <= 1:
        raise ValueError(f'prob must be in [0, 1], got {prob}')
    height, width = size
    if area[1] * ratio * max(size) >= min(size):
        raise ValueError(f'a box of {area[1]:g} of the area fits into no image of {height} x '
                         f"{width} pixels: take squarer crops, or cutmix='batch'")
    corners = torch.zeros(4, num)
    for i in range(num):
        chance, share = torch.rand(2, generator=generator).tolist()
        if chance >= prob:
            continue
        wanted = (area[0] + (area[1] - area[0]) * share) * height * width
        while True:
            r, top, left = torch.rand(3, generator=generator).tolist()
            aspect = ratio + (1 / ratio - ratio) * r
            box_h, box_w = int((wanted * aspect) ** 0.5), int((wanted / aspect) ** 0.5)
            top, left = int(top * height), int(left * width)
            if top + box_h <= height and left + box_w <= width:
                break
        corners[:, i] = torch.tensor([top, top + box_h, left, left + box_w])
    return _boxes(corners, size, device)


def cutmix_masks_xor(num: int, size: tuple[int, int], *, boxes: int = 3,
                     share: tuple[float, float] = (0.25, 0.5),
                     generator: torch.Generator | None = None, device=None) -> Tensor:
    """Several boxes per image that toggle: where two overlap, nothing is mixed (CPS's code).

    Each box draws s uniform in ``share``, a height of s^r of the image's with r uniform in [0, 1],
    and the width that makes up the area s; both sides are then multiplied by sqrt(1 / boxes), so
    that a box covers s / boxes of the image. Its corner is uniform. Drawn on the host, so that no
    device is waited for.

    Args:
        num: number of images N. size: (H, W) in pixels.
        boxes: of an image, at least 1. share: least and largest s, in (0, 1].
        generator: CPU generator; the default one if None.
        device: where the mask is wanted.

    Returns:
        ``(N, H, W)`` bool, True inside an odd number of boxes.

    Raises:
        ValueError: ``boxes`` below 1, or ``share`` not rising within (0, 1].
    """
    least, largest = share
    if boxes < 1 or not 0 < least <= largest <= 1:
        raise ValueError('boxes must be at least 1 and share rise within (0, 1], got '
                         f'{boxes} and {share}')
    height, width = size
    draw = torch.rand(4, num * boxes, generator=generator)
    area = least + (largest - least) * draw[0]
    tall = area ** draw[1]
    box_h = (tall * boxes ** -0.5 * height).round()
    box_w = (area / tall * boxes ** -0.5 * width).round()
    top, left = ((height - box_h) * draw[2]).round(), ((width - box_w) * draw[3]).round()
    every = _boxes(torch.stack([top, top + box_h, left, left + box_w]), size, device)
    return every.unflatten(0, (num, boxes)).sum(dim=1) % 2 == 1


def cutout_mask(num: int, size: tuple[int, int], side: int, *,
                generator: torch.Generator | None = None, device=None) -> Tensor:
    """One square hole per image, its centre uniform, cut off at the border (PseudoSeg's code).

    Args:
        num: number of images N. size: (H, W) in pixels. side: of the square, in pixels; 0: none.
        generator: CPU generator; the default one if None.
        device: where the mask is wanted.

    Returns:
        ``(N, H, W)`` bool, True inside the hole.
    """
    edges = []
    for length, draw in zip(size, torch.rand(2, num, generator=generator)):
        start = (draw * length).floor() - side // 2
        edges += [start.clamp(min=0), (start + side).clamp(max=length)]
    return _boxes(torch.stack(edges), size, device)


def cutmix_masks_beta(num: int, size: tuple[int, int], *,
                      generator: torch.Generator | None = None, device=None) -> Tensor:
    """One box per image, of one random size for the batch, cut off at the border (PS-MT's code).

    Both sides are sqrt(1 - lambda) of the image's, lambda ~ Beta(4, 4), which is how the middle one
    of seven uniform numbers is distributed. A centre is uniform but for the first eighth of each
    axis; what of the box lies outside is lost, so its share is mostly below 1 - lambda. Drawn on
    the host, so that no device is waited for.

    Args:
        num: number of images N. size: (H, W) in pixels.
        generator: CPU generator; the default one if None.
        device: where the mask is wanted.

    Returns:
        ``(N, H, W)`` bool, True inside the box.
    """
    side = (1 - torch.rand(7, generator=generator).median()).sqrt()
    edges = []
    for length, draw in zip(size, torch.rand(2, num, generator=generator)):
        centre = (length // 8 + draw * (length - length // 8)).floor()
        half = (side * length).floor() // 2
        edges += [(centre - half).clamp(min=0), (centre + half).clamp(max=length)]
    return _boxes(torch.stack(edges), size, device)


def _boxes(corners: Tensor, size: tuple[int, int], device) -> Tensor:
    """``(4, N)`` top, bottom, left, right on the host -> ``(N, H, W)`` bool on the device."""
    # only the corners travel: to send whole masks would wait for the device
    top, bottom, left, right = corners.to(device, non_blocking=True)[..., None]
    rows = torch.arange(size[0], device=device)
    cols = torch.arange(size[1], device=device)
    in_rows = (rows >= top) & (rows < bottom)
    in_cols = (cols >= left) & (cols < right)
    return in_rows[:, :, None] & in_cols[:, None, :]


def mix(x: Tensor, mask: Tensor, group: int | None = None, inside: Tensor | None = None,
        partner: Tensor | None = None, shift: int = 1, align_corners: bool = False) -> Tensor:
    """Replace each image's box by the same box of the next image in the batch.

    Args:
        x: ``(N, ..., h, w)`` of any dtype: images, soft labels, confidence, parts, validity.
        mask: ``(N, H, W)`` bool from :func:`cutmix_mask`; brought to (h, w) by :func:`nearest`.
        group: images among which 'the next' goes round, a divisor of N; None: the whole batch.
        inside: like ``x``, what the boxes are filled from (None: ``x``).
        partner: ``(N,)`` long, the image that fills each one's box (None: the next one).
        shift: how many images further 'the next' is.
        align_corners: of the bilinear resize that lies between (H, W) and (h, w).

    Returns:
        tensor like ``x``. With N = 1 an image is its own partner and nothing changes.

    Raises:
        ValueError: not as many boxes as images.
    """
    if mask.shape[0] != x.shape[0]:
        raise ValueError(f'{x.shape[0]} images but {mask.shape[0]} boxes')
    box = nearest(mask, x.shape[-2:], align_corners)
    box = box.view(box.shape[0], *[1] * (x.dim() - 3), *box.shape[-2:])
    source = x if inside is None else inside
    if partner is not None:
        other = source[partner]
    elif group is None:
        other = source.roll(-shift, dims=0)
    else:
        other = source.unflatten(0, (-1, group)).roll(-shift, dims=1).flatten(0, 1)
    return torch.where(box, other, x)


def nearest(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Nearest-neighbour resize of maps of any dtype, on the grid of the bilinear resize.

    Where labels, confidences or boxes meet features, both must be read at the same places: with
    ``align_corners`` row i of h lies on i (H - 1) / (h - 1) of the H rows, otherwise on
    (i + 0.5) H / h - 0.5. Halves are rounded up. Whole numbers all the way, so that places are
    exact.

    Args:
        x: ``(..., H, W)``. size: (h, w). align_corners: as F.interpolate takes it.

    Returns:
        ``(..., h, w)`` of the same dtype.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    rows, cols = (_places(source, target, align_corners, x.device)
                  for source, target in zip(x.shape[-2:], size))
    return x.index_select(-2, rows).index_select(-1, cols)


def _places(source: int, target: int, align_corners: bool, device) -> Tensor:
    """``(target,)`` long: the pixel of ``source`` nearest to each one of ``target``."""
    index = torch.arange(target, device=device)
    if align_corners:
        steps = max(target - 1, 1)
        return (2 * index * (source - 1) + steps).div(2 * steps, rounding_mode='floor')
    return ((2 * index + 1) * source).div(2 * target, rounding_mode='floor')
