"""Which protocol two lists are, and that one table holds one protocol."""

from __future__ import annotations

from typing import Iterable

from .lists import checksum
from .published import PROTOCOLS, find, row_of

SHOWN = 12  # digits of a checksum in a name
PSEUDO = '+pseudo'  # behind a name: images of the unlabelled list train with predicted labels


def protocol_of(labeled_ids: Iterable[str], unlabeled_ids: Iterable[str] | None = None) -> str:
    """The name ``PROTOCOL/PARTITION`` of a pair of lists, such as ``voc-classic/1-16``.

    Both lists must be the published ones, in any order (of COCO's, whose unlabelled list is the
    rest of train2017, the labelled one and the number of the others). Lists of one's own are
    ``own-P/L``: P is the start of the checksum of all images, L that of the labelled ones.
    Partitions of one collection of images thus have one protocol, whatever drew them (our choice).

    Args:
        labeled_ids: ids as ``read_ids`` gives them.
        unlabeled_ids: the same; None where nothing unlabelled is used, then the labelled list alone
            decides.
    """
    labeled = set(labeled_ids)
    unlabeled = None if unlabeled_ids is None else set(unlabeled_ids)
    row = find(labeled, 'labeled')
    if row and (unlabeled is None or _is_rest(row, labeled, unlabeled)):
        return f'{row.protocol}/{row.partition}'
    everything = labeled | (unlabeled or set())
    return f'own-{checksum(everything)[:SHOWN]}/{checksum(labeled)[:SHOWN]}'


def _is_rest(row, labeled: set, unlabeled: set) -> bool:
    wanted = row_of(row.protocol, row.partition, 'unlabeled')
    if wanted.sha256:
        return checksum(unlabeled) == wanted.sha256
    return len(unlabeled) == wanted.count and not labeled & unlabeled


def is_published(name: str) -> bool:
    """Whether a name of ``protocol_of`` is that of a published protocol."""
    return name.split('/')[0] in PROTOCOLS


def describe(name: str) -> str:
    """A name of ``protocol_of`` in words, for logs and messages."""
    if name.endswith(PSEUDO):
        return f'{describe(name[:-len(PSEUDO)])}, with pseudo labels of unlabelled images'
    protocol, _, partition = name.partition('/')
    if protocol in PROTOCOLS:
        return f'{name} ({PROTOCOLS[protocol].title})'
    pool = protocol[len('own-'):]
    return f'own lists (sha256 {partition} of the labelled ids, {pool} of all)'


def check_same_protocol(names: Iterable[str]) -> str:
    """The one protocol of several results, for whoever puts them into a table.

    Args:
        names: as ``protocol_of`` gives them; partitions may differ.

    Raises:
        ValueError: there are two protocols, both named; or there is no name at all.
    """
    seen: dict = {}
    for name in names:
        seen.setdefault(name.split('/')[0], name)
    if not seen:
        raise ValueError('no result says which protocol it has: ProtocolHook writes protocol.json '
                         'into the log folder of a run')
    if len(seen) > 1:
        first, second = list(seen.values())[:2]
        raise ValueError(
            f"one table cannot hold '{first}' and '{second}': {describe(first)}; "
            f'{describe(second)}. They train on other images, so that their figures do not '
            'compare. Make a table of each protocol')
    return next(iter(seen))
