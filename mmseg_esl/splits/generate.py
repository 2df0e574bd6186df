"""Nested, class-covering partitions, drawn by seed alone."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from typing import Iterable, Mapping


def partition_size(total: int, share: str) -> int:
    """How many of ``total`` images a share is: '1/16' rounded up, as published lists do, or '92'.

    Raises:
        ValueError: neither a fraction in (0, 1] nor a number from 1 to ``total``.
    """
    try:
        value = Fraction(share)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if '/' not in share and value.denominator == 1 and 0 < value <= total:
        return int(value)
    if '/' in share and 0 < value <= 1:
        return math.ceil(total * value)
    raise ValueError(f"share '{share}' of {total} images: give a fraction such as 1/16, or a "
                     f'number from 1 to {total}')


def rounded(total: int, share: str) -> str:
    """What a share became: '23 of 367 (1/16 = 22.9)'; of a number '92 of 367'."""
    size = f'{partition_size(total, share)} of {total}'
    exact = f'{float(total * Fraction(share)):.1f}'
    return f'{size} ({share} = {exact})' if '/' in share else size


def nested_partitions(classes: Mapping[str, Iterable], shares: Iterable[str],
                      seed: int = 0) -> dict[str, list[str]]:
    """Draw the labelled images of several partitions, each within the next larger one.

    Every partition is the start of one order of the images: first enough of them to hold every
    class, then the others at random. The order follows from SHA-256 of seed and id, so that every
    machine, Python and file system gives the same. All of this is our choice.

    Args:
        classes: id -> the classes that its mask holds; their images are the collection.
        shares: such as '1/16' or '92', see ``partition_size``.
        seed: another seed, another draw.

    Returns:
        share -> ids, sorted.

    Raises:
        ValueError: no image, or an impossible share.
    """
    if not classes:
        raise ValueError('there is no image to draw from: no image has a mask')
    classes = {name: frozenset(held) for name, held in classes.items()}
    sizes = {share: partition_size(len(classes), share) for share in shares}
    shuffled = sorted(classes, key=lambda name: (_draw(seed, name), name))
    first = _covering(classes, shuffled)
    if sizes and len(first) > min(sizes.values()):  # fewer images, at the price of chance
        first = _greedy(classes, shuffled)
    taken = set(first)
    order = first + [name for name in shuffled if name not in taken]
    return {share: sorted(order[:size]) for share, size in sizes.items()}


def absent_classes(classes: Mapping[str, Iterable], chosen: Iterable[str]) -> list:
    """The classes that occur in the collection and in no chosen image, sorted."""
    held = {c for name in chosen for c in classes[name]}
    return sorted({c for every in classes.values() for c in every} - held)


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f'{seed}:{name}'.encode()).digest()


def _covering(classes, shuffled) -> list[str]:
    """Images that hold every class, each drawn at random from those with the class it is for.

    Rare classes choose first: their images bring the common classes along.
    """
    holders: dict = {}
    for name in shuffled:
        for c in classes[name]:
            holders.setdefault(c, []).append(name)
    chosen, held = [], set()
    for c in sorted(holders, key=lambda c: (len(holders[c]), c)):
        if c not in held:
            chosen.append(holders[c][0])
            held |= classes[holders[c][0]]
    return chosen


def _greedy(classes, shuffled) -> list[str]:
    """As ``_covering`` with fewer images: each time the one with most new classes."""
    missing = {c for every in classes.values() for c in every}
    chosen = []
    while missing:
        best = max(shuffled, key=lambda name: len(classes[name] & missing))  # the first of equals
        chosen.append(best)
        missing -= classes[best]
    return chosen
