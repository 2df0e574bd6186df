"""Which images are meant, where their masks go, and which files are no images."""
from __future__ import annotations

import os
import os.path as osp
from dataclasses import dataclass
from pathlib import Path

from ..datasets.file_check import content_problem, path_problem
from ..datasets.files import ARRAY_SUFFIX, find_images

KINDS = ('index', 'color', 'overlay')


@dataclass(frozen=True)
class Item:
    """One image and the files that are made of it.

    Attributes:
        path: of the image.
        outputs: kind -> path of a PNG file.
    """
    path: str
    outputs: dict


def list_items(inputs, out, kinds=('index', )) -> list:
    """Every image below folders, and single ones, with their outputs.

    ``a/b.jpg`` of a folder becomes ``OUT/a/b.png``; with several kinds ``OUT/KIND/a/b.png``.

    Args:
        inputs: images and folders (nested, any suffixes, see ``datasets.files.find_images``).
        out: folder for what is written.
        kinds: of KINDS.

    Returns:
        Items, in the order of the inputs, those of a folder sorted.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder without images; two images with one output; an output that would
            replace an image or lie among those of a folder.
    """
    items, owners, out = [], {}, Path(out)
    for source in inputs:
        for path, name in _images(str(source), out):
            stem = osp.splitext(name)[0]
            outputs = {kind: (out / kind if len(kinds) > 1 else out) / f'{stem}.png'
                       for kind in kinds}
            place = outputs[kinds[0]]
            if place in owners:
                raise ValueError(f"'{owners[place]}' and '{path}' would both become '{place}'. "
                                 'Rename one, or predict them with another --out')
            owners[place] = path
            items.append(Item(path, outputs))
    given = {osp.realpath(item.path) for item in items}
    for item in items:
        for place in item.outputs.values():
            if osp.realpath(place) in given:
                raise ValueError(f"'{place}', made of '{item.path}', would replace an image. "
                                 'Give another --out')
    return items


def _images(source: str, out: Path):
    """(path, name relative to the input) of each image of one input."""
    if osp.isfile(source):
        return [(source, osp.basename(source))]
    if not osp.isdir(source):
        raise FileNotFoundError(f"'{source}' is neither an image nor a folder")
    here, there = osp.realpath(source), osp.realpath(out)
    if there == here or there.startswith(here + os.sep):
        raise ValueError(f"the results in '{out}' would lie among the images of '{source}' and be "
                         'taken for images next time. Give a folder outside as --out')
    names = find_images(source) or find_images(source, ARRAY_SUFFIX)
    if not names:
        raise ValueError(f"no image below '{source}'")
    return [(osp.join(source, name), name) for name in names]


def image_problem(path: str) -> str | None:
    """Why a file is no whole image, or None. What is whole may still not decode."""
    return path_problem(path) or content_problem(Path(path).read_bytes())
