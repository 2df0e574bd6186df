"""coco_semi.py on a COCO of a few images, and its rasterisation against naive loops."""

import io
import json
import signal
import zipfile

import numpy as np
import pytest
from archives import ConversionError, Zip
from coco_masks import draw_instances, fill_polygon, run_length_mask
from coco_semi import read_annotations
from PIL import Image
from trees import contents, tree

# COCO's 80 category ids of 1 to 90
CATEGORIES = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def naive_polygon(points, height, width):
    """Even-odd rule: from each pixel's centre, count the edges above it."""
    out = np.zeros((height, width), bool)
    corners = list(zip(points[::2], points[1::2]))
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            for (xa, ya), (xb, yb) in zip(corners, corners[1:] + corners[:1]):
                if (xa > x) != (xb > x) and ya + (x - xa) * (yb - ya) / (xb - xa) <= y:
                    out[row, column] ^= True
    return out


@pytest.mark.parametrize('seed', range(30))
def test_polygons(seed):
    """Self-crossing ones too, and such as stick out of the image."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-4, 20, 2 * rng.integers(3, 9)).round(2).tolist()
    mask = np.zeros((12, 17), np.uint8)
    fill_polygon(mask, points, 9)
    np.testing.assert_array_equal(mask == 9, naive_polygon(points, 12, 17))
    assert set(np.unique(mask)) <= {0, 9}


def test_polygons_that_cover_nothing():
    for points in ([], [1, 1, 5, 5], [3, 3] * 4, [-9, -9, -5, -9, -5, -5], [30, 1, 40, 1, 40, 9],
                   [1, 30, 9, 30, 9, 40]):
        mask = np.zeros((8, 8), np.uint8)
        fill_polygon(mask, points, 1)
        assert not mask.any()
    with pytest.raises(ValueError, match='make no polygon'):
        fill_polygon(mask, [1, 2, 3], 1)


def test_rectangle_counts_pixels():
    mask = np.zeros((8, 8), np.uint8)
    fill_polygon(mask, [2, 1, 6, 1, 6, 4, 2, 4], 1)
    assert mask[1:4, 2:6].all() and mask.sum() == 12


def test_run_lengths():
    rng = np.random.default_rng(0)
    for first in (0, 1):
        mask = rng.random((5, 7)) < 0.5
        mask[0, 0] = first
        counts, last = [], 0  # column by column, beginning with zeros
        run = 0
        for column in range(7):
            for row in range(5):
                if mask[row, column] != last:
                    counts.append(run)
                    last, run = mask[row, column], 0
                run += 1
        segmentation = dict(counts=counts + [run], size=[5, 7])
        np.testing.assert_array_equal(run_length_mask(segmentation, 5, 7), mask)
    for wrong in (dict(counts='abc', size=[5, 7]), dict(counts=[35], size=[7, 5]),
                  dict(counts=[34], size=[5, 7])):
        with pytest.raises(ValueError, match='do not fit'):
            run_length_mask(wrong, 5, 7)


def test_smaller_is_on_top_whatever_the_order():
    box = [0, 0, 6, 0, 6, 6, 0, 6]
    inner = [2, 2, 4, 2, 4, 4, 2, 4]
    items = [(3, 36, [box]), (7, 4, [inner])]
    for order in (items, items[::-1]):
        out = draw_instances(order, 6, 6)
        assert (out[2:4, 2:4] == 7).all() and (out == 3).sum() == 32
    equal = draw_instances([(3, 36, [box]), (5, 36, [box])], 6, 6)
    assert (equal == 5).all()  # the later
    both = draw_instances([(8, 5, [inner, [0, 0, 1, 0, 1, 1, 0, 1]])], 6, 6)
    assert (both == 8).sum() == 5  # an instance in two pieces


def test_against_pycocotools():
    """Equal run lengths; polygons differ only where an edge passes a centre within 0.2 pixels."""
    coco = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    height, width = 60, 80
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 20))
        radius = rng.uniform(8, 28, 20)
        points = np.stack([40 + radius * np.cos(angles), 30 + radius * np.sin(angles)], 1)
        ours = np.zeros((height, width), np.uint8)
        fill_polygon(ours, points.ravel(), 1)
        theirs = coco.decode(coco.frPyObjects([points.ravel().tolist()], height, width))[..., 0]
        rows, columns = np.nonzero(ours != theirs)
        assert len(rows) <= 0.03 * theirs.sum()
        for row, column in zip(rows, columns):
            assert distance(points, column + 0.5, row + 0.5) < 0.2
    mask = (rng.random((height, width)) < 0.5).astype(np.uint8)
    flat = mask.ravel(order='F')
    counts = np.diff(np.flatnonzero(np.concatenate([[1], np.diff(flat) != 0, [1]]))).tolist()
    segmentation = dict(counts=[0] * int(flat[0]) + counts, size=[height, width])
    theirs = coco.decode(coco.frPyObjects(segmentation, height, width))
    np.testing.assert_array_equal(run_length_mask(segmentation, height, width), theirs == 1)


def distance(points, x, y):
    """Of a point from the nearest edge."""
    a, b = points, np.roll(points, -1, axis=0)
    along = ((np.array([x, y]) - a) * (b - a)).sum(1) / ((b - a) ** 2).sum(1)
    nearest = a + along.clip(0, 1)[:, None] * (b - a)
    return np.hypot(*(nearest - [x, y]).T).min()


# ------------------------------------------------------------------------------- the converter


def jpg():
    out = io.BytesIO()
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(out, 'JPEG')
    return out.getvalue()


def annotations(stems):
    """One polygon an image, of a category that follows from its number; none of the last image."""
    images = [dict(id=int(s), file_name=f'{s}.jpg', height=24, width=32) for s in stems]
    notes = [dict(id=i, image_id=int(s), category_id=CATEGORIES[int(s) % 80], area=20, iscrowd=0,
                  segmentation=[[4, 4, 9, 4, 9, 8, 4, 8]]) for i, s in enumerate(stems[:-1])]
    runs = dict(counts=[0, 24, 31 * 24], size=[24, 32])  # a crowd: the first column
    notes.append(dict(id=999, image_id=int(stems[0]), category_id=90, area=24, iscrowd=1,
                      segmentation=runs))
    # in any order, as categories and images are found by id
    return json.dumps(dict(images=images[::-1], annotations=notes[::-1],
                           categories=[dict(id=i) for i in CATEGORIES[::-1]]))


TRAIN, VAL = [f'{i:012d}' for i in range(100, 190)], [f'{i:012d}' for i in range(5)]


@pytest.fixture
def archives(tmp_path):
    paths = [tmp_path / f'{name}.zip' for name in ('train2017', 'val2017', 'annotations')]
    for path, stems in zip(paths, (TRAIN, VAL)):
        with zipfile.ZipFile(path, 'w') as file:
            file.writestr(f'{path.stem}/', '')
            for stem in stems:
                file.writestr(f'{path.stem}/{stem}.jpg', jpg())
    with zipfile.ZipFile(paths[2], 'w') as file:
        for name, stems in (('train2017', TRAIN), ('val2017', VAL)):
            file.writestr(f'annotations/captions_{name}.json', '{}')
            file.writestr(f'annotations/instances_{name}.json', annotations(stems))
    return paths


def test_masks(archives, tmp_path, call):
    args = ('coco_semi', *archives, '--out', tmp_path / 'out')
    assert '90 train2017 images, 90 train2017 masks, 5 val2017' in call(*args, '--no-count-check')
    for which, stems in (('train2017', TRAIN), ('val2017', VAL)):
        for stem in stems:
            wanted = np.zeros((24, 32), np.uint8)
            if stem != stems[-1]:
                wanted[4:8, 4:9] = int(stem) % 80 + 1
            if stem == stems[0]:
                wanted[:, 0] = 80  # category 90 is the last
            with Image.open(tmp_path / f'out/masks/{which}/{stem}.png') as image:
                np.testing.assert_array_equal(np.asarray(image), wanted)
    before = tree(tmp_path / 'out')
    assert len(before) == 2 * 95
    # nothing to do: the annotations are not read, so an archive without them will do
    with zipfile.ZipFile(archives[2], 'w') as file:
        file.writestr('x', '')
    call(*args, '--no-count-check')
    assert tree(tmp_path / 'out') == before
    assert '90 train2017 images instead of 118287' in call(*args, status=1)
    (tmp_path / f'out/masks/val2017/{VAL[0]}.png').unlink()
    assert 'holds no instances_val2017.json' in call(*args, status=1)


def test_interrupted_then_resumed(archives, tmp_path, call, interrupt):
    args = ('coco_semi', *archives, '--no-count-check', '--workers', 1, '--out')
    call(*args, tmp_path / 'whole')
    out = tmp_path / 'out'
    interrupt(signal.SIGKILL, 5, out, 'masks/train2017/*.png', *args, out)
    before = {name: item for name, item in tree(out).items() if not name.endswith('.unfinished')}
    assert 95 <= len(before) < 190  # all training images, some masks
    call(*args, out)
    after = tree(out)
    assert {name: after[name] for name in before} == before
    assert contents(out) == contents(tmp_path / 'whole')


def test_what_does_not_belong_together(archives, tmp_path, call):
    train, val, notes = archives
    out = ('--no-count-check', '--out', tmp_path / 'out')
    with zipfile.ZipFile(train, 'a') as file:
        file.writestr('train2017/000000009999.jpg', jpg())
    said = call('coco_semi', train, val, notes, *out, status=1)
    assert '1 images of train2017 are not in its annotations, such as 000000009999' in said
    with zipfile.ZipFile(notes, 'w') as file:
        file.writestr('instances_train2017.json', json.dumps(dict(
            images=[], annotations=[], categories=[dict(id=1)])))
    assert '1 categories instead of 80' in call('coco_semi', train, val, notes, *out, status=1)


GOOD = dict(categories=[dict(id=i) for i in CATEGORIES], annotations=[],
            images=[dict(id=1, file_name='a.jpg', height=4, width=4)])


@pytest.mark.parametrize('text', [
    '[1]', '{}', '[' * 99999, '{"images": [', b'\xff\xfe', dict(GOOD, categories=[1]),
    dict(GOOD, images=[dict(id=1, file_name=3, height=4, width=4)]),
    dict(GOOD, annotations=[dict(image_id=9)]), dict(GOOD, annotations=[1])], ids=range(9))
def test_annotations_that_are_none(tmp_path, text):
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('instances_val2017.json',
                      json.dumps(text) if isinstance(text, dict) else text)
    with pytest.raises(ConversionError, match="instances_val2017.json of '.*a.zip' is not as COCO"):
        read_annotations(Zip(path), 'val2017')
