"""Lists of images: reading every published style, writing ours, and their checksum.

Ours is one id a line: the path relative to the image folder, with forward slashes and without the
image's suffix, such as ``2007_000032`` or ``aachen/aachen_000000_000019``.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from ..storage.atomic import atomic_file

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
_SUFFIX = '|'.join(re.escape(suffix) for suffix in SUFFIXES)
_END = re.compile(rf'({_SUFFIX})$', re.IGNORECASE)
# 'image.jpg mask.png', blank or tab between them
_COLUMNS = re.compile(rf'(.+?(?:{_SUFFIX}))\s+\S.*', re.IGNORECASE)
# the image folders of VOC and COCO, from wherever the path starts
_FOLDER = re.compile(r'^(?:.*/)?(?:JPEGImages|(?:train|val|test)20\d\d)/')
# Cityscapes names its city in each file, so the folders (two layouts are common) add nothing
_CITYSCAPES = re.compile(r'^(?:.*/)?(([a-z-]+)_\d{6}_\d{6})(?:_leftImg8bit)?$')


def image_id(entry: str) -> str:
    """The id of one entry of a list, whatever the style.

    Only the folders and names of VOC, Cityscapes and COCO are known; of any other entry the
    suffix alone is removed, so it has to be relative to its image folder already.

    >>> image_id('JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png')
    '2007_000032'
    >>> image_id('leftImg8bit/train/ulm/ulm_000079_000019_leftImg8bit.png')
    'ulm/ulm_000079_000019'
    """
    entry = entry.strip().replace('\\', '/')
    columns = _COLUMNS.fullmatch(entry)
    path = columns.group(1) if columns else entry
    path = _FOLDER.sub('', _END.sub('', path)).lstrip('/')
    path = path[2:] if path.startswith('./') else path
    city = _CITYSCAPES.match(path)
    return f'{city.group(2)}/{city.group(1)}' if city else path


def read_ids(path) -> list[str]:
    """The ids of a list, in its order, repeated ones included; blank lines and ``#`` are skipped.

    Reads ``image mask`` pairs (UniMatch, ST++, CPS), stems (U2PL, CPS), paths (U2PL) and our own.

    Raises:
        FileNotFoundError: there is no such list. ValueError: it is not UTF-8, or names nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the list '{path}' does not exist (or is not a file)")
    try:  # utf-8-sig: some editors put a mark before the first name
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"the list '{path}' is not UTF-8 text ({error}). Save it as UTF-8, or "
                         'leave it out') from error
    entries = (line.strip() for line in lines)
    ids = [image_id(entry) for entry in entries if entry and not entry.startswith('#')]
    if not ids:
        raise ValueError(f"the list '{path}' names no image. Write one image a line")
    return ids


def write_ids(path, ids) -> None:
    """Write our own style, in the given order; the file appears completely or not at all."""
    with atomic_file(path) as file:
        file.writelines(f'{name}\n'.encode() for name in ids)


def checksum(ids) -> str:
    """SHA-256 of the ids, sorted and joined by line breaks, 64 hex digits: order does not count."""
    return hashlib.sha256('\n'.join(sorted(ids)).encode()).hexdigest()


def folder_ids(folder, suffix: str | None = None) -> list[str]:
    """The ids of all images below a folder, sorted; hidden files and folders are skipped.

    Args:
        suffix: such as '_leftImg8bit.png'; None for any image.

    Raises:
        FileNotFoundError: there is no such folder. ValueError: no image in it, or two files that
            differ in their suffix alone.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"the folder '{folder}' does not exist (or is not a folder)")
    end = re.compile(re.escape(suffix) + '$') if suffix else _END
    ids = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith('.')]
        inside = Path(os.path.relpath(place, folder))
        ids += [(inside / end.sub('', name)).as_posix() for name in files
                if end.search(name) and not name.startswith('.')]
    if not ids:
        raise ValueError(f"no image below '{folder}'"
                         + (f" whose name ends with '{suffix}'" if suffix else ''))
    ids.sort()
    for one, other in zip(ids, ids[1:]):
        if one == other:
            raise ValueError(f"two images below '{folder}' are called '{one}' and differ in their "
                             'suffix alone: give the one that counts')
    return ids


def is_unlabeled_list(path) -> bool:
    """Whether a file is the unlabelled one of a pair, by its name."""
    return 'unlabeled' in Path(path).name


def find_pairs(folder) -> tuple[list[tuple[Path, Path | None]], list[Path]]:
    """The pairs of lists below a folder, and the lists that are of no pair; sorted by path.

    A pair is ``labeled.txt`` and ``unlabeled.txt``, or any two names that differ in that word
    (CPS: ``train_aug_labeled_1-8.txt``). The unlabelled one may be missing: COCO's often is.

    Raises:
        FileNotFoundError: there is no such folder, or no ``*.txt`` below it.
    """
    paths = sorted(Path(folder).rglob('*.txt'))
    if not paths:
        raise FileNotFoundError(f"no list (*.txt) below '{folder}'. Give the folder that holds "
                                'them; docs/datasets.md says where lists are published')
    pairs, others = [], []
    for path in paths:
        if is_unlabeled_list(path):
            partner = path.with_name(path.name.replace('unlabeled', 'labeled'))
            if not partner.is_file():
                others.append(path)
        elif 'labeled' in path.name:
            partner = path.with_name(path.name.replace('labeled', 'unlabeled'))
            pairs.append((path, partner if partner.is_file() else None))
        elif path.name.lower() not in ('readme.txt', 'license.txt'):
            others.append(path)
    return pairs, others
