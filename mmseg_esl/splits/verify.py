"""What is wrong with a pair of lists, or with the files that they name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .lists import find_pairs, is_unlabeled_list, read_ids
from .protocol import describe, is_published, protocol_of
from .published import LAYOUTS, PROTOCOLS, Layout, Row, find, row_of


@dataclass
class Report:
    """One pair of lists, or one list of no pair.

    ``name``: as ``protocol_of`` gives it, or of a whole set ('voc val'), or '' if nothing is known.
    ``dataset``: key of LAYOUTS, or '' where the lists are of no published protocol.
    """
    path: Path
    name: str
    dataset: str = ''
    labeled: list = field(default_factory=list)
    unlabeled: list | None = None
    problems: list = field(default_factory=list)

    def __str__(self) -> str:
        if not self.name:
            return f'{len(self.labeled)} images, no published list'
        if '/' not in self.name:
            return f'{self.name}: {len(self.labeled)} images'
        said = f'{describe(self.name)}: {len(self.labeled)} labelled, '
        if self.unlabeled is None:
            return said + 'no unlabelled list beside it'
        return said + f'{len(self.unlabeled)} unlabelled'


def verify_folder(folder) -> list[Report]:
    """A report of every list below a folder. Raises FileNotFoundError if there is none."""
    pairs, others = find_pairs(folder)
    return [verify_pair(*pair) for pair in pairs] + [verify_alone(path) for path in others]


def verify_pair(labeled: Path, unlabeled: Path | None = None) -> Report:
    """Check that two lists repeat nothing, are disjoint, and together a protocol's or one's own.

    Completeness needs no list of everything: a published name means that both checksums, and with
    them both counts, are the publisher's. For lists of one's own see ``not_listed``.
    """
    try:
        ids = read_ids(labeled)
        rest = read_ids(unlabeled) if unlabeled else None
    except ValueError as error:
        return Report(labeled, '', problems=[str(error)])
    name = protocol_of(ids, rest)
    report = Report(labeled, name, labeled=ids, unlabeled=rest)
    if is_published(name):
        report.dataset = PROTOCOLS[name.split('/')[0]].dataset
    report.problems += _repeated(labeled, ids)
    if rest is None:
        return report
    report.problems += _repeated(unlabeled, rest)
    both = sorted(set(ids) & set(rest))
    if both:
        report.problems.append(f'{len(both)} images are labelled and unlabelled: {_some(both)}. '
                               'Take them from the unlabelled list')
    if not is_published(name):
        report.problems += _nearly(ids, rest)
    return report


def verify_alone(path: Path) -> Report:
    """Check a list of no pair: validation, the whole training set, or an unlabelled list."""
    try:
        ids = read_ids(path)
    except ValueError as error:
        return Report(path, '', problems=[str(error)])
    row = find(ids, '')
    report = Report(path, f'{row.protocol} {row.partition}' if row else '', labeled=ids,
                    problems=_repeated(path, ids))
    if is_unlabeled_list(path):
        report.problems.append('an unlabelled list without a labelled one beside it')
    return report


def _repeated(path, ids) -> list[str]:
    twice = sorted(name for name, times in Counter(ids).items() if times > 1)
    return [f'{Path(path).name} repeats {len(twice)} images: {_some(twice)}'] if twice else []


def _nearly(ids, rest) -> list[str]:
    """A list that is published, beside one that is not: a damaged or a mixed pair."""
    out = []
    known = {'labeled': find(set(ids), 'labeled'), 'unlabeled': find(set(rest), 'unlabeled')}
    for part, found in known.items():
        other, given = ('unlabeled', rest) if part == 'labeled' else ('labeled', ids)
        if found is not None:
            wanted = row_of(found.protocol, found.partition, other)
            out.append(f'the {part} list is that of {found.protocol}/{found.partition}, the '
                       f'{other} one is not: it has {len(given)} ids, {_expected(wanted)}')
    return out


def _expected(row: Row) -> str:
    if row.sha256:
        return f'published are {row.count} (sha256 {row.sha256[:12]})'
    return f'and should have the other {row.count} of train2017'


def missing_files(report: Report, data_root, layout: Layout | None = None) -> list[Path]:
    """The images of both lists, and the masks of the labelled one, that are not in ``data_root``.

    Args:
        layout: None for the one that mmseg expects of the protocol's data set.

    Raises:
        ValueError: lists of one's own, and no layout.
    """
    layout = layout or LAYOUTS.get(report.dataset)
    if layout is None:
        raise ValueError(f"'{report.path}' are lists of no published protocol: say where their "
                         'images are, with --img-dir and --img-suffix (and --mask-dir and '
                         '--mask-suffix)')
    return [path for path in files_of(report, data_root, layout) if not path.is_file()]


def files_of(report: Report, data_root, layout: Layout | None = None) -> list[Path]:
    """The images of both lists and the masks of the labelled one, as paths."""
    layout, root = layout or LAYOUTS[report.dataset], Path(data_root)
    images = [root / layout.images / (name + layout.img_suffix)
              for name in [*report.labeled, *(report.unlabeled or ())]]
    return images + [root / layout.masks / (name + layout.mask_suffix)
                     for name in report.labeled if layout.masks]


def not_listed(report: Report, names) -> list[str]:
    """Of the ids of a folder, those that are in neither list, sorted."""
    return sorted(set(names) - set(report.labeled) - set(report.unlabeled or ()))


def _some(names, most: int = 3) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
