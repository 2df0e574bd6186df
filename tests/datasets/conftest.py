"""A small mmseg-shaped data set on disk, and configs for it."""

import gc

from mmseg_esl import stack

stack.install()

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from PIL import Image  # noqa: E402

import mmseg_esl.datasets  # noqa: E402, F401 - registers the components

# mmengine collects garbage for every dataset; what the imports left need not be searched each time
gc.freeze()

CLASSES = ('ground', 'thing', 'sky')
PALETTE = [[0, 0, 0], [9, 9, 9], [99, 99, 99]]


def write_image(path, size=(24, 32), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    # no zeros: a padded pixel can be told from a real one
    pixels = np.random.RandomState(seed).randint(1, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path, size=(24, 32), high=3, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.RandomState(seed).randint(0, high, size, dtype=np.uint8)
    values.flat[0] = high - 1
    Image.fromarray(values).save(path)


class MiniData:
    """labelled a0..a3 with masks, unlabelled b0..b6 without, all in one image folder."""

    labeled = [f'a{i}' for i in range(4)]
    unlabeled = [f'b{i}' for i in range(7)]

    def __init__(self, root):
        self.root = root
        for i, name in enumerate(self.labeled + self.unlabeled):
            write_image(root / 'img' / f'{name}.jpg', seed=i)
        for i, name in enumerate(self.labeled):
            write_mask(root / 'ann' / f'{name}.png', seed=i)
        self.write_list('labeled.txt', self.labeled)
        self.write_list('unlabeled.txt', self.unlabeled)

    def write_list(self, name, lines):
        (self.root / name).write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')

    def geometry(self, crop=(16, 20)):
        return [
            dict(type='RandomResize', scale=(32, 24), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop),
            dict(type='RandomFlip', prob=0.5),
        ]

    def labeled_cfg(self, **changes):
        cfg = dict(
            type='BaseSegDataset',
            data_root=str(self.root),
            ann_file='labeled.txt',
            data_prefix=dict(img_path='img', seg_map_path='ann'),
            metainfo=dict(classes=CLASSES, palette=PALETTE),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'), *self.geometry(),
                dict(type='PackSegInputs')
            ])
        cfg.update(changes)
        return cfg

    def unlabeled_cfg(self, **changes):
        cfg = dict(
            type='UnlabeledDataset',
            data_root=str(self.root),
            ann_file='unlabeled.txt',
            data_prefix=dict(img_path='img'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadEmptyAnnotations'), *self.geometry(),
                dict(type='PackSegInputs')
            ])
        cfg.update(changes)
        return cfg

    def semi_cfg(self, **changes):
        cfg = dict(type='SemiDataset', labeled=self.labeled_cfg(), unlabeled=self.unlabeled_cfg())
        cfg.update(changes)
        return cfg


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def data(tmp_path):
    return MiniData(tmp_path / 'mini')


@pytest.fixture
def write():
    """The two writers, for tests that need files of their own."""

    class Write:
        image = staticmethod(write_image)
        mask = staticmethod(write_mask)

    return Write
