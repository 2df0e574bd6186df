"""COCO 2017 with 81 semantic classes, from the archives as they are distributed.

    python tools/dataset_converters/coco_semi.py train2017.zip val2017.zip \
        annotations_trainval2017.zip --out data/coco

writes {train2017,val2017}/*.jpg and masks/{train2017,val2017}/*.png: 0 is background, 1 to 80 are
the categories of instances_*.json in the order of their ids, as the semi-supervised literature
uses COCO. Overlaps, crowds: see coco_masks.py. Nothing is ignored (no 255). Reading the annotations
of train2017 takes about 3 GB of memory. mmseg has a converter for COCO-Stuff's 171 classes alone.
"""
from __future__ import annotations

import json
from pathlib import Path

import cv2
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
from coco_masks import draw_instances

SETS = ('train2017', 'val2017')
WANTED = {'train2017 images': 118287, 'train2017 masks': 118287, 'val2017 images': 5000,
          'val2017 masks': 5000}
NUM_CATEGORIES = 80


def read_annotations(archive: Zip, which: str) -> dict:
    """stem -> (height, width, [(label, area, segmentation)]) of every image of a set."""
    found = archive.matching(rf'instances_{which}\.json')
    if not found:
        raise ConversionError(f"'{archive.path}' holds no instances_{which}.json: is it "
                              'annotations_trainval2017.zip?')
    try:
        return _by_image(json.loads(archive.read(found[0][1])), which)
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
        raise ConversionError(f"instances_{which}.json of '{archive.path}' is not as COCO has it "
                              f'({type(error).__name__}: {error})') from error


def _by_image(content: dict, which: str) -> dict:
    ids = sorted(category['id'] for category in content['categories'])
    if len(ids) != NUM_CATEGORIES:
        raise ConversionError(f'instances_{which}.json has {len(ids)} categories instead of '
                              f'{NUM_CATEGORIES}')
    label = {category: place for place, category in enumerate(ids, 1)}
    images = {image['id']: (Path(image['file_name']).stem, image['height'], image['width'], [])
              for image in content['images']}
    for note in content['annotations']:
        images[note['image_id']][3].append(
            (label[note['category_id']], note['area'], note['segmentation']))
    return {stem: (height, width, notes) for stem, height, width, notes in images.values()}


def write_masks(archive: Zip, which: str, stems, out: Path, workers: int) -> None:
    """The masks that are missing; the annotations are not even read where none is."""
    missing = [stem for stem in stems if not (out / f'{stem}.png').is_file()]
    if not missing:
        return
    annotations = read_annotations(archive, which)
    unknown = [stem for stem in missing if stem not in annotations]
    if unknown:
        raise ConversionError(f'{len(unknown)} images of {which} are not in its annotations, such '
                              f'as {unknown[0]}: the archives do not belong together')

    def one(stem: str) -> None:
        height, width, notes = annotations[stem]
        try:
            mask = draw_instances(notes, height, width)
        except ValueError as error:
            raise ConversionError(f'instances_{which}.json, image {stem}: {error}') from error
        write(out / f'{stem}.png', cv2.imencode('.png', mask)[1].tobytes())

    for_all(missing, one, f'masks of {which}', workers)


def convert() -> None:
    args = parser(__doc__.splitlines()[0])
    args.add_argument('train', help='train2017.zip')
    args.add_argument('val', help='val2017.zip')
    args.add_argument('annotations', help='annotations_trainval2017.zip')
    args.add_argument('--out', type=Path, default=Path('data/coco'))
    args = args.parse_args()
    annotations, found = Zip(args.annotations), {}
    for which, path in zip(SETS, (args.train, args.val)):
        images, folder = Zip(path), args.out / 'masks' / which
        pattern = rf'{which}/\w+\.jpg'
        images.copy(pattern, args.out, args.workers)
        stems = sorted(Path(name).stem for name, _ in images.matching(pattern))
        write_masks(annotations, which, stems, folder, args.workers)
        check_present(stems, folder, '.png', 'masks')
        found[f'{which} images'] = count(args.out / which, '*.jpg')
        found[f'{which} masks'] = count(folder, '*.png')
    check_counts(found, WANTED, args.no_count_check)


if __name__ == '__main__':
    main(convert)
