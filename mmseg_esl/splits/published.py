"""Published protocols, recognised by the checksums of their lists.

``published.csv`` beside this file holds names, counts and checksums; the lists themselves belong to
their publishers. ``tools/make_splits.py registry`` makes it again from them.
"""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .lists import checksum, read_ids

FILE = Path(__file__).with_name('published.csv')
COLUMNS = ('protocol', 'partition', 'list', 'count', 'sha256')


class Protocol(NamedTuple):
    """``dataset`` is a key of LAYOUTS; ``title`` is for people."""
    dataset: str
    title: str


class Layout(NamedTuple):
    """Where mmseg expects the files of a data set's training images, relative to its data_root."""
    images: str
    img_suffix: str
    masks: str
    mask_suffix: str


LAYOUTS = {
    'voc': Layout('JPEGImages', '.jpg', 'SegmentationClassAug', '.png'),
    'cityscapes': Layout('leftImg8bit/train', '_leftImg8bit.png', 'gtFine/train',
                         '_gtFine_labelTrainIds.png'),
    'coco': Layout('train2017', '.jpg', 'masks/train2017', '.png'),
}
PROTOCOLS = {
    'voc-classic': Protocol('voc', "VOC classic: 92 to 1464 of VOC's own 1464 masks are labelled"),
    'voc-classic-stpp': Protocol('voc', "VOC classic, ST++'s second and third draw"),
    'voc-blender-unimatch': Protocol('voc', "VOC blender, CPS's lists, which UniMatch uses too"),
    'voc-blender-u2pl': Protocol('voc', "VOC blender, U2PL's lists: 1/16 and 1/8 are drawn from "
                                 "VOC's own masks alone, 1/4 and 1/2 hold all of them"),
    'voc-blender-stpp': Protocol('voc', "VOC blender, ST++'s three draws"),
    'cityscapes-unimatch': Protocol('cityscapes', "Cityscapes, CPS's lists, which UniMatch uses "
                                    'too'),
    'cityscapes-u2pl': Protocol('cityscapes', "Cityscapes, U2PL's lists"),
    'cityscapes-stpp': Protocol('cityscapes', "Cityscapes, ST++'s three draws"),
    'coco-unimatch': Protocol('coco', "COCO, UniMatch's lists"),
}
COCO_TRAIN = 118287  # images of train2017

# Where each list lies below a folder with unimatch/ (the folder splits of github.com/LiheYoung/
# UniMatch), u2pl/ (data/splits of Haochen-Wang409/U2PL), cps/ (DATA of charlesCXK/TorchSemiSeg) and
# stpp/ (dataset/splits of LiheYoung/ST-PlusPlus): protocol, pattern, partition -> what fills it.
_PARTS = {f'1-{n}': f'1_{n}' for n in (2, 4, 8, 16, 30)}
_CLASSIC = {'1-16': '92', '1-8': '183', '1-4': '366', '1-2': '732', 'full': '1464'}
_DRAWS = {f'{part}-split{draw}': f'{folder}/split_{draw}'
          for part, folder in _PARTS.items() for draw in (0, 1, 2)}
SOURCES = (
    ('voc-classic', 'unimatch/pascal/{}/labeled.txt', _CLASSIC),
    ('voc-classic', 'u2pl/pascal/{}/labeled.txt', _CLASSIC),
    ('voc-blender-unimatch', 'unimatch/pascal/{}/labeled.txt', _PARTS),
    ('voc-blender-unimatch', 'cps/pascal_voc/subset_train_aug/train_aug_labeled_{}.txt',
     {part: part for part in _PARTS}),
    ('voc-blender-u2pl', 'u2pl/pascal/{}/labeled.txt',
     {'1-16': '662', '1-8': '1323', '1-4': '2646', '1-2': '5291'}),
    ('voc-blender-u2pl', 'unimatch/pascal/u2pl_{}/labeled.txt', _PARTS),
    ('cityscapes-unimatch', 'unimatch/cityscapes/{}/labeled.txt', _PARTS),
    ('cityscapes-unimatch', 'cps/city/config_new/subset_train/train_aug_labeled_{}.txt',
     {part: part for part in _PARTS}),
    ('cityscapes-u2pl', 'u2pl/cityscapes/{}/labeled.txt',
     {'1-16': '186', '1-8': '372', '1-4': '744', '1-2': '1488'}),
    ('coco-unimatch', 'unimatch/coco/{}/labeled.txt',
     {f'1-{n}': f'1_{n}' for n in (512, 256, 128, 64, 32)}),
    ('voc-classic-stpp', 'stpp/pascal/{}/labeled.txt',
     {f'1-16-split{draw}': f'92/split_{draw}' for draw in (0, 1, 2)}),
    ('voc-blender-stpp', 'stpp/pascal/{}/labeled.txt', _DRAWS),
    ('cityscapes-stpp', 'stpp/cityscapes/{}/labeled.txt', _DRAWS),
    ('voc', 'unimatch/pascal/{}.txt', {'trainaug': 'train_aug', 'val': 'val'}),
    ('cityscapes', 'unimatch/cityscapes/{}.txt', {'val': 'val'}),
    ('coco', 'unimatch/coco/{}.txt', {'val': 'val'}),
)


class Row(NamedTuple):
    """One list. ``part`` is 'labeled', 'unlabeled' or '' (a whole set, such as val).

    ``sha256`` is '' for COCO's unlabelled lists: they are the rest of train2017.
    """
    protocol: str
    partition: str
    part: str
    count: int
    sha256: str


@lru_cache(maxsize=None)
def rows() -> tuple:
    """The registry."""
    lines = FILE.read_text(encoding='utf-8').splitlines()
    return tuple(Row(r['protocol'], r['partition'], r['list'], int(r['count']), r['sha256'])
                 for r in csv.DictReader(lines))


def make_rows(folder) -> list[Row]:
    """The rows of every published list that is found below ``folder``; see SOURCES.

    A list that two publishers share is a row of the protocol that is named first.

    Raises:
        ValueError: the publishers of one protocol do not agree.
    """
    found: dict = {}
    for protocol, pattern, partitions in SOURCES:
        for partition, value in partitions.items():
            path = Path(folder) / pattern.format(value)
            if not path.is_file():
                continue
            for row in _rows_of(protocol, partition, path):
                if found.setdefault(row[:3], row) != row:
                    raise ValueError(f"'{path}' is not the list that other publishers of "
                                     f'{protocol}/{partition} give')
    return _without_repeats(found.values())


def _rows_of(protocol: str, partition: str, path: Path) -> list[Row]:
    ids = read_ids(path)
    first = Row(protocol, partition, 'labeled', len(ids), checksum(ids))
    if protocol not in PROTOCOLS:
        return [first._replace(part='')]
    if PROTOCOLS[protocol].dataset == 'coco':
        return [first, Row(protocol, partition, 'unlabeled', COCO_TRAIN - len(ids), '')]
    rest = read_ids(path.with_name(path.name.replace('labeled', 'unlabeled')))
    return [first, Row(protocol, partition, 'unlabeled', len(rest), checksum(rest))]


def _without_repeats(found) -> list[Row]:
    """Without the partitions whose labelled list is an earlier one's."""
    found, owner = list(found), {}
    for row in found:
        if row.part == 'labeled':
            owner.setdefault(row.sha256, row[:2])
    own = set(owner.values())
    return [row for row in found if not row.part or row[:2] in own]


def to_csv(table) -> str:
    """The text of a registry file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator='\n')
    writer.writerow(COLUMNS)
    writer.writerows(sorted(table))
    return out.getvalue()


def find(ids, part: str) -> Row | None:
    """The published list that holds exactly these ids; ``part`` as in Row."""
    wanted = checksum(ids)
    return next((row for row in rows() if row.part == part and row.sha256 == wanted), None)


def row_of(protocol: str, partition: str, part: str) -> Row | None:
    """The row of that name."""
    return next((row for row in rows() if row[:3] == (protocol, partition, part)), None)
