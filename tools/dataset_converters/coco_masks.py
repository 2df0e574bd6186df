"""COCO's instances as pixels."""
from __future__ import annotations

import numpy as np


def draw_instances(instances, height: int, width: int) -> np.ndarray:
    """One label map of all instances of an image, (H, W) uint8; 0 where there is none.

    Where instances overlap, the smaller is on top (of equal ones the later in the file): the cup
    before the table. Crowds are drawn as their class. The literature names no rule; this is ours.

    Args:
        instances: (label, area, segmentation) each; label 1 to 255. A segmentation is a list of
            polygons [x0, y0, x1, y1, ...] in pixels, or ``dict(counts=[...], size=[H, W])``.

    Raises:
        ValueError: a segmentation of another form.
    """
    out = np.zeros((height, width), np.uint8)
    for label, _, segmentation in sorted(instances, key=lambda item: -item[1]):  # stable
        if isinstance(segmentation, dict):
            out[run_length_mask(segmentation, height, width)] = label
        else:
            for polygon in segmentation:
                fill_polygon(out, polygon, label)
    return out


def run_length_mask(segmentation: dict, height: int, width: int) -> np.ndarray:
    """(H, W) bool of uncompressed runs: off, on, off, ... down the columns, from the left.

    Raises:
        ValueError: another size, runs that do not fill the image, or compressed text (COCO's own
            files have none).
    """
    counts = segmentation['counts']
    if isinstance(counts, (str, bytes)) or list(segmentation['size']) != [height, width] \
            or sum(counts) != height * width:
        raise ValueError(f'run lengths of size {segmentation["size"]} do not fit an image of '
                         f'{height} x {width}, or are compressed')
    on = np.arange(len(counts)) % 2 == 1
    return np.repeat(on, counts).reshape(width, height).T


def fill_polygon(out: np.ndarray, polygon, value: int) -> None:
    """Set the pixels of ``out`` (H, W) whose centres lie in a polygon, by the even-odd rule.

    A pixel (row, column) covers [column, column + 1) x [row, row + 1). pycocotools rounds vertices
    to a fifth of a pixel before: it differs where an edge passes that near to a centre.

    Raises:
        ValueError: an odd number of coordinates, or no flat list of them.
    """
    points = np.asarray(polygon, np.float64)
    if points.ndim != 1 or len(points) % 2:
        raise ValueError(f'coordinates of shape {points.shape} make no polygon')
    x, y = points[::2], points[1::2]
    x1, y1 = np.roll(x, -1), np.roll(y, -1)
    height, width = out.shape
    # each edge crosses the centre lines of the columns first to last - 1
    first = np.ceil(np.minimum(x, x1) - 0.5).clip(0, width).astype(int)
    last = np.ceil(np.maximum(x, x1) - 0.5).clip(0, width).astype(int)
    number = last - first
    edge = np.repeat(np.arange(len(x)), number)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number) + first[edge]
    if not len(edge):
        return
    slope = (y1 - y)[edge] / (x1 - x)[edge]
    row = np.ceil(y[edge] + (column + 0.5 - x[edge]) * slope - 0.5).clip(0, height).astype(int)
    top, left = row.min(), column.min()
    crossings = np.zeros((row.max() + 1 - top, column.max() + 1 - left), np.int32)
    np.add.at(crossings, (row - top, column - left), 1)
    inside = np.cumsum(crossings, axis=0)[:height - top] % 2 == 1
    out[top:top + inside.shape[0], left:left + inside.shape[1]][inside] = value
