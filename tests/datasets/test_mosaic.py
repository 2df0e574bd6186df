"""RandomMosaic: several images of one set in one, wrapped as mmseg wants it."""
from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from mmseg.registry import DATASETS

from mmseg_esl.datasets.seeding import Draw
from mmseg_esl.engine.hooks.part_init_hook import _undistorted

MOSAIC = dict(type='RandomMosaic', prob=1.0, img_scale=(24, 32))
TAIL = [dict(type='RandomCrop', crop_size=(40, 50)), dict(type='PackSegInputs')]
READERS = dict(labeled='LoadAnnotations', unlabeled='LoadEmptyAnnotations')


def loads(which):
    return [dict(type='LoadImageFromFile'), dict(type=READERS[which])]


@pytest.fixture
def mixed(data):
    return DATASETS.build(dict(type='SemiDataset', **{which: dict(
        type='MultiImageMixDataset', pipeline=[MOSAIC, *TAIL],
        dataset=getattr(data, f'{which}_cfg')(pipeline=loads(which))) for which in READERS}))


def test_images_of_the_same_set_are_mixed(mixed):
    for index, values in ((0, {0, 1, 2}), (len(mixed) - 1, {0})):
        item = mixed[index]
        assert item['inputs'].shape == (3, 40, 50)
        assert values <= set(item['data_samples'].gt_sem_seg.data.unique().tolist()) <= {
            *values, 255}
    assert mixed[0]['data_samples'].labeled and not mixed[4]['data_samples'].labeled


def test_no_image_too_many_is_drawn(mixed):
    """Four labelled images, of which mmseg draws the fifth at every fifth draw."""
    for seed in range(20):
        mixed[Draw(0, seed, 0, 0)]


def test_a_mosaic_is_that_of_its_draw(mixed):
    first = mixed[Draw(1, 3, 0, 7)]['inputs']
    random.random(), np.random.rand()
    copied = pickle.loads(pickle.dumps(mixed))  # as a worker gets it
    assert (copied[Draw(1, 3, 0, 7)]['inputs'] == first).all()
    assert (mixed[Draw(1, 3, 0, 8)]['inputs'] != first).any()


def test_the_parts_start_from_single_images(mixed):
    plain = _undistorted(mixed.labeled, [])
    assert [plain[i]['data_samples'].img_path[-6:] for i in range(len(plain))] == [
        f'a{i}.jpg' for i in range(4)]
    assert plain[0]['inputs'].shape == (3, 24, 32)


@pytest.mark.parametrize('which', READERS)
@pytest.mark.parametrize('step', [
    MOSAIC, dict(type='RandomApply', transforms=[MOSAIC], prob=0.5)])
def test_by_hand_the_key_to_change_is_named(data, which, step):
    changed = getattr(data, f'{which}_cfg')(pipeline=[*loads(which), step, *TAIL])
    with pytest.raises(ValueError, match=f'RandomMosaic in the pipeline of {which} needs several.*'
                                         rf"set {which}=dict\(type='MultiImageMixDataset'"):
        DATASETS.build(data.semi_cfg(**{which: changed}))
