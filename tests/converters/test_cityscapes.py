"""cityscapes.py on a Cityscapes of a few images."""

import io
import signal
import zipfile

import numpy as np
import pytest
from cityscapes import TABLE
from mmseg.datasets import CityscapesDataset
from PIL import Image
from trees import contents, tree

# Cityscapes' own table: name -> id, of the classes that are trained
IDS = {'road': 7, 'sidewalk': 8, 'building': 11, 'wall': 12, 'fence': 13, 'pole': 17,
       'traffic light': 19, 'traffic sign': 20, 'vegetation': 21, 'terrain': 22, 'sky': 23,
       'person': 24, 'rider': 25, 'car': 26, 'truck': 27, 'bus': 28, 'train': 31,
       'motorcycle': 32, 'bicycle': 33}
STEMS = [f'train/ulm/ulm_{i:06d}_000019' for i in range(40)] + [
    f'train/bad-honnef/bad-honnef_{i:06d}_000000' for i in range(40)] + [
    f'val/munster/munster_{i:06d}_000019' for i in range(5)]


def png(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, 'PNG')
    return out.getvalue()


def ids(stem):
    rng = np.random.default_rng(list(stem.encode()))
    return rng.integers(0, 34, (16, 32)).astype(np.uint8)


@pytest.fixture
def archives(tmp_path):
    images, labels = tmp_path / 'leftImg8bit.zip', tmp_path / 'gtFine.zip'
    with zipfile.ZipFile(images, 'w') as a, zipfile.ZipFile(labels, 'w') as b:
        a.writestr('license.txt', 'x')
        for stem in [*STEMS, 'test/berlin/berlin_000000_000019']:
            a.writestr(f'leftImg8bit/{stem}_leftImg8bit.png',
                       png(np.full((16, 32, 3), len(stem), np.uint8)))
            b.writestr(f'gtFine/{stem}_gtFine_labelIds.png', png(ids(stem)))
            b.writestr(f'gtFine/{stem}_gtFine_color.png', b'x')
            b.writestr(f'gtFine/{stem}_gtFine_polygons.json', '{}')
    return images, labels


def test_table_follows_the_names():
    classes = CityscapesDataset.METAINFO['classes']
    assert len(classes) == len(IDS) == 19
    for train_id, name in enumerate(classes):
        assert TABLE[IDS[name]] == train_id
    assert (TABLE == 255).sum() == 34 - 19


def test_table_is_that_of_cityscapesscripts():
    labels = pytest.importorskip('cityscapesscripts.helpers.labels').labels
    for label in labels:
        assert label.id < 0 or TABLE[label.id] == label.trainId


def test_masks(archives, tmp_path, call):
    args = ('cityscapes', *archives, '--out', tmp_path / 'out')
    said = call(*args, '--no-count-check')
    assert '80 training images, 80 training masks, 5 validation images, 5 validation masks' in said
    train_id = {IDS[name]: i for i, name in enumerate(CityscapesDataset.METAINFO['classes'])}
    for stem in STEMS:
        wanted = np.vectorize(lambda v: train_id.get(v, 255))(ids(stem))
        with Image.open(tmp_path / f'out/gtFine/{stem}_gtFine_labelTrainIds.png') as image:
            np.testing.assert_array_equal(np.asarray(image), wanted)
    before = tree(tmp_path / 'out')
    assert len(before) == 2 * 85  # no test images, no colours, no polygons
    call(*args, '--no-count-check')
    assert tree(tmp_path / 'out') == before
    said = call(*args, status=1)
    assert '80 training images instead of 2975' in said


@pytest.mark.parametrize('pattern, number', [('leftImg8bit/*/*/*.png', 9), ('gtFine/*/*/*.png', 9)])
def test_killed_then_resumed(archives, tmp_path, call, interrupt, pattern, number):
    args = ('cityscapes', *archives, '--no-count-check', '--workers', 1, '--out')
    call(*args, tmp_path / 'whole')
    out = tmp_path / 'out'
    status, _ = interrupt(signal.SIGKILL, number, out, pattern, *args, out)
    assert status == -signal.SIGKILL
    before = {name: item for name, item in tree(out).items() if not name.endswith('.unfinished')}
    whole = contents(tmp_path / 'whole')
    assert number <= len(before) < len(whole)
    assert {name: data for name, (data, _) in before.items()}.items() <= whole.items()
    call(*args, out)
    after = tree(out)
    assert {name: after[name] for name in before} == before
    assert contents(out) == whole


def test_damage(archives, tmp_path, call):
    images, labels = archives
    args = ('cityscapes', images, labels, '--no-count-check', '--out', tmp_path / 'out')
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-300])  # the table of contents is at the end
    assert f"'{labels}' is damaged or was not downloaded" in call(*args, status=1)
    name = f'gtFine/{STEMS[3]}_gtFine_labelIds.png'
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        place = file.getinfo(name).header_offset + 30 + len(name) + 60
    labels.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1:])
    said = call(*args, status=1)
    assert f"'{labels}' is damaged" in said and name in said
    labels.write_bytes(whole)
    call(*args)
    with zipfile.ZipFile(labels, 'w') as file:
        file.writestr(f'gtFine/{STEMS[0]}_gtFine_labelIds.png', png(np.full((4, 4), 34, np.uint8)))
    said = call(*args[:4], '--out', tmp_path / 'other', status=1)
    assert f'{STEMS[0]}_gtFine_labelIds.png' in said and '0 to 33' in said
