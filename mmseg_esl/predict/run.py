"""Prediction of many images: batches, broken files, files that are there already."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Iterator

from .images import Item, image_problem
from .masks import Masker
from .pictures import Painter, save


@dataclass
class Summary:
    """What became of the images.

    Attributes:
        written: number of images with new outputs.
        existing: number of images that were left alone.
        broken: (path, why) of the images that could not be read.
    """
    written: int = 0
    existing: int = 0
    broken: list = field(default_factory=list)


def predict(items: list, masker: Masker, painter: Painter, batch: int = 1,
            skip_existing: bool = False, advance: Callable = lambda: None,
            warn: Callable = print) -> Summary:
    """Write the outputs of every item.

    Args:
        items: from :func:`list_items`.
        masker, painter: what predicts and what draws.
        batch: images in one forward, of neighbours with equal sizes.
        skip_existing: leave images alone whose outputs are all there.
        advance: called after each image.
        warn: called with a text on each broken image.

    Raises:
        RuntimeError: the network fails on an image that could be read; names it.
        OSError: what the file system says when an output is written.
    """
    summary = Summary()
    for group in _groups(_ready(items, masker, skip_existing, summary, advance, warn),
                         masker, batch):
        try:
            masks = masker([data for _, data in group])
        except Exception as error:
            names = ', '.join(f"'{item.path}'" for item, _ in group)
            raise RuntimeError(f'the network fails on {names}: {type(error).__name__}: {error}'
                               ) from error
        for (item, _), mask in zip(group, masks):
            for kind, place in item.outputs.items():
                save(painter(kind, mask, item.path), place)
            summary.written += 1
            advance()
    return summary


def _ready(items, masker, skip_existing, summary, advance, warn) -> Iterator:
    """(item, prepared data) of the images that are to be predicted and can be read."""
    for item in items:
        if skip_existing and all(place.is_file() for place in item.outputs.values()):
            summary.existing += 1
            advance()
            continue
        try:
            problem, data = image_problem(item.path), None
            if problem is None:
                data = masker.prepare(item.path)
        except Exception as error:  # whatever a pipeline says of a file that it cannot decode
            problem = (f'it cannot be read ({type(error).__name__}: {error}). Convert it to a PNG '
                       'or JPEG of 8 bits a channel')
        if problem is None:
            yield item, data
        else:
            summary.broken.append((item.path, problem))
            warn(f"'{item.path}' is left out: {problem}")
            advance()


def _groups(ready: Iterator[tuple[Item, dict]], masker: Masker, batch: int) -> Iterator[list]:
    """Neighbours with equal keys, at most ``batch`` of them."""
    group: list = []
    for item, data in ready:
        if group and (len(group) == batch or masker.key(group[0][1]) != masker.key(data)):
            yield group
            group = []
        group.append((item, data))
    if group:
        yield group
