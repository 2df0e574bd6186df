"""A network over images of any size, as mmseg's evaluation has it: whole, or by sliding windows."""
from __future__ import annotations

from dataclasses import fields
from typing import Callable

import torch.nn.functional as F
from torch import Tensor


def windows(net, size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """The (rows, columns) that a segmentor is shown of an image of ``(H, W)`` pixels.

    All of it, or with ``test_cfg.mode='slide'`` mmseg's windows: the last ones end with the image.
    """
    cfg = net.test_cfg or {}
    if cfg.get('mode', 'whole') != 'slide':
        return [(slice(0, size[0]), slice(0, size[1]))]
    rows, columns = (places(*along) for along in zip(size, cfg['crop_size'], cfg['stride']))
    return [(slice(*row), slice(*column)) for row in rows for column in columns]


def places(size: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """(begin, end) of mmseg's windows along one side: the last one is moved inwards."""
    number = max(size - tile + stride - 1, 0) // stride + 1
    ends = [min(index * stride + tile, size) for index in range(number)]
    return [(max(end - tile, 0), end) for end in ends]


def over_windows(net, images: Tensor, see: Callable):
    """A View of images ``(B, D, H, W)`` of any size.

    Args:
        net: the segmentor whose ``test_cfg`` says how.
        see: gives the View of a part of the images.

    Returns:
        The View: logits averaged where windows overlap, as mmseg does; so are features, each
        window's being resized to its place (our choice; mmseg has no features of windows).
    """
    size = tuple(images.shape[-2:])
    boxes = windows(net, size)
    if len(boxes) == 1:
        return see(images)
    views = [see(images[..., rows, columns]) for rows, columns in boxes]
    joined = {field.name: [getattr(view, field.name) for view in views]
              for field in fields(views[0])}
    return type(views[0])(**{name: None if maps[0] is None else _join(maps, boxes, size)
                             for name, maps in joined.items()})


def _join(maps: list, boxes: list, size: tuple[int, int]) -> Tensor:
    """One map ``(B, D, h, w)`` of the windows' maps, as fine as theirs."""
    rows, columns = boxes[0]
    scale = [have / (along.stop - along.start)
             for have, along in zip(maps[0].shape[-2:], (rows, columns))]
    height, width = (max(1, round(n * s)) for n, s in zip(size, scale))
    total = maps[0].new_zeros(*maps[0].shape[:2], height, width)
    count = total.new_zeros(height, width)
    for part, box in zip(maps, boxes):
        top, left = (min(round(along.start * s), n - 1)
                     for along, s, n in zip(box, scale, (height, width)))
        bottom, right = (max(round(along.stop * s), start + 1)
                         for along, s, start in zip(box, scale, (top, left)))
        if part.shape[-2:] != (bottom - top, right - left):
            part = F.interpolate(part, (bottom - top, right - left), mode='bilinear')
        total[..., top:bottom, left:right] += part
        count[top:bottom, left:right] += 1
    return total / count


def shares(net, images: Tensor, labels: Tensor):
    """Windows of an image and their labels, each pixel's label in one of them only.

    A window that is smaller than the crop, because the image is, is padded to it as training's
    images are.

    Args:
        net: as above. images: ``(1, D, H, W)``. labels: ``(1, H, W)`` long.

    Yields:
        ``(1, D, h, w)`` images, ``(1, h, w)`` labels; -1 where a label is another window's.
    """
    cfg, left = net.test_cfg or {}, labels.clone()
    least = cfg['crop_size'] if cfg.get('mode') == 'slide' else (0, 0)
    for rows, columns in windows(net, tuple(images.shape[-2:])):
        window, label = images[..., rows, columns], left[..., rows, columns].clone()
        left[..., rows, columns] = -1
        missing = [max(0, wanted - have) for wanted, have in zip(least, window.shape[-2:])]
        pad = [0, missing[1], 0, missing[0]]
        yield F.pad(window, pad), F.pad(label, pad, value=-1)
