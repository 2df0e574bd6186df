"""Images that are in two lists, as the same file, the same bytes, or nearly the same picture."""

from __future__ import annotations

import os.path as osp
from collections import defaultdict

import numpy as np

from .findings import Finding, listed
from .lists import SETS

# Bits of 64. A JPEG of lower quality and size differs by 0 to 4 on CamVid, frames a second apart
# by 18 in the median, and of 24,000 pairs of distant frames none by less than 8.
NEAR = 4
BLOCK = 128  # rows at a time: 118,000 images of COCO then take 60 MB

ADVICE = {
    ('labelled', 'validation'): ('error', 'take them from the labelled list: what is trained on '
                                 'cannot measure'),
    ('unlabelled', 'validation'): ('warning', 'take them from the unlabelled list, or say that '
                                   'the result is transductive'),
    ('labelled', 'unlabelled'): ('warning', 'take them from the unlabelled list: they would be '
                                 'drawn twice as often'),
}


def check_leakage(images: dict, scans: dict, allow_overlap: bool = True) -> list[Finding]:
    """Overlap of the three lists.

    Exact overlap (one file, or equal bytes) counts as in ADVICE. Near duplicates are findings of
    their own, and only a note between labelled and unlabelled: the frames of a video are alike,
    and there that is what unlabelled images are for.

    Args:
        images: set -> paths. scans: path -> Scan.
        allow_overlap: of the SemiDataset, which else refuses one file in both lists.
    """
    out, exact = [], {}
    for pair, (level, fix) in ADVICE.items():
        exact[pair] = same(images[pair[0]], images[pair[1]], scans)
        if exact[pair]:
            shown = listed(f'{a} = {b}' if a != b else a for a, b in exact[pair])
            if pair == ('labelled', 'unlabelled') and not allow_overlap and any(
                    osp.realpath(a) == osp.realpath(b) for a, b in exact[pair]):
                level, fix = 'error', 'take them from the unlabelled list: training refuses them'
            out.append(Finding(level, 'overlap', f'{len(exact[pair])} {pair[0]} images are '
                               f'{pair[1]} images too: {shown}', fix,
                               tuple(a for a, _ in exact[pair])))
    for pair in ADVICE:
        near = alike(images[pair[0]], images[pair[1]], scans)
        near = [(a, b) for a, b in near if scans[a].digest != scans[b].digest]
        if near:
            out.append(_near(pair, near))
    out += _twice(images, scans)
    return out or [Finding('ok', 'overlap', 'no image, nor one that is nearly the same, is in two '
                           'lists')]


def _near(pair, near) -> Finding:
    shown = listed((f'{a} ~ {b}' for a, b in near), 2)
    text = f'{len(near)} {pair[0]} images look like {pair[1]} ones: {shown}'
    if pair[1] != 'validation':
        return Finding('note', 'near duplicates', text, 'nothing, if they are frames of a video',
                       tuple(a for a, _ in near))
    return Finding('warning', 'near duplicates', text, 'look at them: copies of an image belong in '
                   'one list; frames of one video too, if the result is to hold for other videos',
                   tuple(a for a, _ in near))


def _twice(images: dict, scans: dict) -> list[Finding]:
    out = []
    for which in SETS:
        groups = defaultdict(list)
        for path in images[which]:
            if scans[path].digest:
                groups[scans[path].digest].append(path)
        twice = [' = '.join(paths[:3]) for paths in groups.values() if len(paths) > 1]
        if twice:
            out.append(Finding('note', 'repeated images', f'{len(twice)} {which} images are there '
                               f'more than once: {listed(twice)}', 'keep one of each',
                               tuple(twice)))
    return out


def same(first, second, scans: dict) -> list[tuple[str, str]]:
    """Pairs of one file or of equal bytes, each image of ``first`` once."""
    by_path = {osp.realpath(path): path for path in second}
    by_digest = {scans[path].digest: path for path in second if scans[path].digest}
    pairs = ((path, by_path.get(osp.realpath(path)) or by_digest.get(scans[path].digest or None))
             for path in first)
    return [(a, b) for a, b in pairs if b is not None]


def alike(first, second, scans: dict) -> list[tuple[str, str]]:
    """Pairs (image of ``first``, its nearest of ``second``) at most NEAR bits apart."""
    first = [path for path in first if scans[path].hash]
    second = [path for path in second if scans[path].hash]
    if not first or not second:
        return []
    ours, theirs = _bits(first, scans), _bits(second, scans)
    out = []
    for start in range(0, len(first), BLOCK):
        block = ours[start:start + BLOCK]
        # bits that differ = a (1 - b) + (1 - a) b, a product of matrices
        apart = block @ (1 - theirs).T + (1 - block) @ theirs.T
        nearest = apart.argmin(axis=1)
        for row in np.flatnonzero(apart[np.arange(len(block)), nearest] <= NEAR):
            out.append((first[start + row], second[nearest[row]]))
    return out


def _bits(paths, scans: dict) -> np.ndarray:
    packed = np.frombuffer(b''.join(scans[path].hash for path in paths), np.uint8)
    return np.unpackbits(packed.reshape(len(paths), -1), axis=1).astype(np.float32)
