"""Colours for classes, parts and numbers of dominant classes: RGB in 0..255, uint8.

Up to ten classes have colours that colour-blind readers can tell apart. Beyond ten no palette is
safe; further colours are then the best that a search finds.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np

GREY = (70, 70, 70)
# Okabe and Ito (2008) without black, which is GREY here
OKABE_ITO = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
             (213, 94, 0), (204, 121, 167))
# Paul Tol's 'muted' scheme, and his pale grey
PALE = (221, 221, 221)
TOL_MUTED = ((204, 102, 119), (51, 34, 136), (221, 204, 119), (17, 119, 51), (136, 204, 238),
             (136, 34, 85), (68, 170, 153), (153, 153, 51), (170, 68, 153))
# 1, 2, >= 3 dominant classes; right, wrong, ignored
COUNTS = np.array([(230, 230, 230), (86, 180, 233), (204, 51, 17)], np.uint8)
WRONG = np.array([(240, 240, 240), (204, 51, 17), (150, 150, 150)], np.uint8)
# Linear RGB as red-blind and green-blind eyes see it (Machado, Oliveira and Fernandes 2009)
BLINDNESS = (np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                       [-0.003882, -0.048116, 1.051998]]),
             np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                       [-0.011820, 0.042940, 0.968881]]))
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def class_colours(names, dataset=None) -> np.ndarray:
    """A colour for each class.

    Args:
        names: C names. A class called 'background' is grey, so that the others stand out.
        dataset: ``(C, 3)`` colours to take instead, such as the data set's own palette.

    Returns:
        ``(C, 3)`` uint8. Okabe and Ito's colours for up to seven classes beside a background, Paul
        Tol's for up to ten; beyond that each further colour is the one farthest (in CIELAB, by the
        least of its distances as normal, red-blind and green-blind eyes see them) from all before.

    Raises:
        ValueError: ``dataset`` has not one colour a class.
    """
    if dataset is not None:
        if np.shape(dataset) != (len(names), 3):
            raise ValueError(f'the palette has shape {np.shape(dataset)}, but there are '
                             f'{len(names)} classes: give one RGB colour a class')
        return np.asarray(dataset, np.uint8)
    grounds = [i for i, name in enumerate(names) if str(name).lower() == 'background'][:1]
    wanted = len(names) - len(grounds)
    if wanted <= len(OKABE_ITO):
        ground, colours = GREY, [*OKABE_ITO]
    else:
        ground, colours = PALE, [*_tol_and_more(wanted + 1)]
        if grounds:
            colours.remove(PALE)
    colours = colours[:wanted]
    for index in grounds:
        colours.insert(index, ground)
    return np.array(colours, np.uint8).reshape(-1, 3)


def part_colours(colours: np.ndarray, num_parts: int) -> np.ndarray:
    """Shades of each class's colour, dark to light, for its parts.

    Args:
        colours: ``(C, 3)`` uint8. num_parts: K.

    Returns:
        ``(C * K, 3)`` uint8, indexed by the flat part number c * K + k.
    """
    base = np.asarray(colours, float)[:, None]
    if num_parts == 1:
        return np.asarray(colours, np.uint8)
    # around the same darkest and lightest for all, or a light class would have no light shades
    level = np.linspace(0, 1, num_parts)[None, :, None]
    shades = np.where(level < 0.5, base * (0.35 + 1.3 * level),
                      base + (255 - base) * 1.44 * (level - 0.5))
    return np.rint(shades).clip(0, 255).astype(np.uint8).reshape(-1, 3)


def paint(index: np.ndarray, colours: np.ndarray, other=(255, 255, 255)) -> np.ndarray:
    """``(H, W)`` integers -> ``(H, W, 3)`` uint8; ``other`` where an integer has no colour."""
    inside = (index >= 0) & (index < len(colours))
    picture = np.asarray(colours, np.uint8)[np.where(inside, index, 0)]
    picture[~inside] = other
    return picture


def least_distance(rgb: np.ndarray, others: np.ndarray) -> np.ndarray:
    """CIELAB distance of colours to others, the least over normal, red- and green-blind eyes.

    Args:
        rgb: ``(N, 3)``; others ``(M, 3)``, both in 0..255.

    Returns:
        ``(N, M)``.
    """
    return np.min([np.linalg.norm(a[:, None] - b[None], axis=-1)
                   for a, b in zip(_views(rgb), _views(others))], axis=0)


@lru_cache(maxsize=None)
def _tol_and_more(count: int) -> tuple:
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 12)] * 3, indexing='ij'), -1).reshape(-1, 3)
    light, spread = _views(grid)[0][:, 0], np.ptp(grid, axis=1)
    grid = np.rint(grid[(light > 25) & (light < 92) & (spread > 60)])  # neither near black nor grey
    colours = [*TOL_MUTED, PALE]
    nearest = least_distance(grid, np.array(colours)).min(axis=1)
    while len(colours) < count:
        colours.append(tuple(int(x) for x in grid[nearest.argmax()]))
        nearest = np.minimum(nearest, least_distance(grid, np.array(colours[-1:]))[:, 0])
    return tuple(colours)


def _views(rgb) -> list[np.ndarray]:
    """CIELAB of colours (N, 3) as normal, red-blind and green-blind eyes see them."""
    scaled = np.asarray(rgb, float) / 255
    linear = np.where(scaled > 0.04045, ((scaled + 0.055) / 1.055) ** 2.4, scaled / 12.92)
    return [_lab(linear), *(_lab((linear @ matrix.T).clip(0, 1)) for matrix in BLINDNESS)]


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = linear @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
