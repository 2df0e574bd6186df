"""Cityscapes with the 19 training classes, from the two archives as they are distributed.

    python tools/dataset_converters/cityscapes.py leftImg8bit_trainvaltest.zip \
        gtFine_trainvaltest.zip --out data/cityscapes

writes leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/
*_gtFine_labelTrainIds.png, as mmseg's configs expect (the test set has no public labels).

mmseg's converter paints the polygons anew and needs cityscapesscripts. The archive's labelIds were
painted by that very code, polygon by polygon, so that translating their numbers gives the same
pixels.
"""
from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from archives import (
    ConversionError,
    Zip,
    check_counts,
    check_present,
    count,
    for_all,
    main,
    parser,
    write,
)

# Cityscapes' id of each training class, in the order of mmseg's CityscapesDataset
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
NUM_IDS, IGNORE = 34, 255
TABLE = np.full(NUM_IDS, IGNORE, np.uint8)
TABLE[list(TRAIN_IDS)] = range(len(TRAIN_IDS))
IMAGES = r'leftImg8bit/(?:train|val)/[\w-]+/\w[\w-]*_leftImg8bit\.png'
LABELS = r'gtFine/(?:train|val)/[\w-]+/\w[\w-]*_gtFine_labelIds\.png'
WANTED = {'training images': 2975, 'training masks': 2975, 'validation images': 500,
          'validation masks': 500}


def to_train_ids(data: bytes, name: str) -> bytes:
    """A PNG of Cityscapes' ids, (H, W) uint8, as one of training ids 0 to 18 and 255."""
    labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() >= NUM_IDS:
        raise ConversionError(f"'{name}' is no map of Cityscapes' ids 0 to {NUM_IDS - 1}")
    return cv2.imencode('.png', TABLE[labels])[1].tobytes()


def convert_labels(archive: Zip, out: Path, workers: int) -> None:
    todo = [(out / re.sub('labelIds(?=[.]png$)', 'labelTrainIds', name), info)
            for name, info in archive.matching(LABELS)]
    todo = [(path, info) for path, info in todo if not path.is_file()]
    for_all(todo, lambda item: write(item[0], to_train_ids(archive.read(item[1]),
                                                           item[1].filename)), 'masks', workers)


def convert() -> None:
    args = parser(__doc__.splitlines()[0])
    args.add_argument('images', help='leftImg8bit_trainvaltest.zip')
    args.add_argument('labels', help='gtFine_trainvaltest.zip')
    args.add_argument('--out', type=Path, default=Path('data/cityscapes'))
    args = args.parse_args()
    images, labels = Zip(args.images), Zip(args.labels)
    images.copy(IMAGES, args.out, args.workers)
    convert_labels(labels, args.out, args.workers)
    found = {}
    for part, title in (('train', 'training'), ('val', 'validation')):
        folder = args.out / 'leftImg8bit' / part
        names = [path.relative_to(folder).as_posix()[:-len('_leftImg8bit.png')]
                 for path in folder.glob('*/*_leftImg8bit.png')]
        check_present(names, args.out / 'gtFine' / part, '_gtFine_labelTrainIds.png', 'masks')
        found[f'{title} images'] = len(names)
        found[f'{title} masks'] = count(args.out / 'gtFine' / part, '*/*_labelTrainIds.png')
    check_counts(found, WANTED, args.no_count_check)


if __name__ == '__main__':
    main(convert)
