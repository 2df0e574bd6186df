import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmseg.models import SegDataPreProcessor
from mmseg.registry import DATASETS, TRANSFORMS


def test_empty_annotations():
    transform = TRANSFORMS.build(dict(type='LoadEmptyAnnotations'))
    fields = ['gt_edge_map']
    out = transform(
        dict(img=np.ones((5, 7, 3)), seg_map_path='/nowhere/x.png', seg_fields=fields))
    assert out['gt_seg_map'].shape == (5, 7) and out['gt_seg_map'].dtype == np.uint8
    assert not out['gt_seg_map'].any()
    assert out['seg_fields'] == ['gt_edge_map', 'gt_seg_map']
    assert fields == ['gt_edge_map'], 'the list of the data info must not grow'
    assert 'seg_map_path' not in out
    assert transform(dict(img_shape=(5, 7)))['gt_seg_map'].shape == (5, 7)
    assert repr(transform) == 'LoadEmptyAnnotations()'


def test_empty_annotations_need_an_image():
    with pytest.raises(KeyError, match='LoadImageFromFile'):
        TRANSFORMS.build(dict(type='LoadEmptyAnnotations'))({})


def preprocess(items, size):
    stock = SegDataPreProcessor(size=size, pad_val=0, seg_pad_val=255)
    batch = stock(pseudo_collate(items), training=True)
    labels = torch.stack([s.gt_sem_seg.data[0] for s in batch['data_samples']])
    return batch['inputs'], labels


def test_padding_is_marked(data, write):
    """An image smaller than the crop: zero on its pixels, 255 on what the preprocessor adds."""
    write.image(data.root / 'small' / 'x.png', size=(10, 13))
    pipeline = Compose([
        dict(type='LoadImageFromFile'),
        dict(type='LoadEmptyAnnotations'),
        dict(type='RandomCrop', crop_size=(16, 20)),
        dict(type='PackSegInputs')
    ])
    item = pipeline(dict(img_path=str(data.root / 'small' / 'x.png'), seg_fields=[]))
    _, labels = preprocess([item], (16, 20))
    expected = np.full((16, 20), 255)
    expected[:10, :13] = 0
    np.testing.assert_array_equal(labels[0].numpy(), expected)


def test_padding_is_marked_after_random_geometry(data):
    """The pixels say it too: ours are never black, padding always is."""
    dataset = DATASETS.build(data.unlabeled_cfg())
    np.random.seed(0)
    inputs, labels = preprocess([dataset[i % len(dataset)] for i in range(40)], (16, 20))
    padding = (inputs == 0).all(dim=1)
    assert padding.any() and not padding.all(dim=(1, 2)).any()
    assert torch.equal(labels == 255, padding)
    assert torch.equal(labels == 0, ~padding)


@pytest.mark.parametrize('height, width', [(9, 12), (4, 12), (9, 5), (3, 3), (6, 8), (7, 9)])
def test_evaluated_centre(height, width):
    """Against a crop by hand of 6 x 8 (H x W); what is filled in never counts."""
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (height, width, 3)).astype(np.uint8)
    label = rng.randint(0, 21, (height, width)).astype(np.uint8)
    out = TRANSFORMS.build(dict(type='EvaluatedCenterCrop', crop_size=(8, 6)))(dict(
        img=image, gt_seg_map=label, img_shape=(height, width), ori_shape=(height, width),
        seg_fields=['gt_seg_map']))
    filled = np.full((max(height, 6), max(width, 8), 3), (104, 116, 124), np.uint8)
    filled[:height, :width] = image
    marked = np.full(filled.shape[:2], 255, np.uint8)
    marked[:height, :width] = label
    top, left = (round((n - m) / 2) for n, m in zip(marked.shape, (6, 8)))
    assert np.array_equal(out['img'], filled[top:top + 6, left:left + 8])
    assert np.array_equal(out['gt_seg_map'], marked[top:top + 6, left:left + 8])
    assert out['img_shape'] == out['ori_shape'] == (6, 8)
    assert (out['gt_seg_map'] != 255).sum() == min(height, 6) * min(width, 8)


def crops_of(labels, num=400, **keys):
    """(top, left) of crops of 4 x 6, and whether each holds a pixel of each class."""
    transform = TRANSFORMS.build(dict(type='RareClassCrop', crop_size=(4, 6), **keys))
    corners, held = [], []
    for _ in range(num):
        found = transform(dict(img=np.repeat(labels[..., None], 3, 2), gt_seg_map=labels,
                               seg_fields=['gt_seg_map']))
        assert (found['img'][..., 0] == found['gt_seg_map']).all()
        held.append([(found['gt_seg_map'] == c).any() for c in range(3)])
        corners.append(transform.crop_bbox(dict(img=labels, gt_seg_map=labels))[::2])
    return corners, np.mean(held, axis=0)


def test_rare_classes_are_in_half_of_the_crops():
    """A class of one pixel: a third of the drawn classes, beside what random crops hold."""
    labels = np.zeros((12, 20), np.uint8)
    labels[9, 15], labels[:, :2], labels[0, 5] = 1, 2, 255
    _, never = crops_of(labels, prob=0.0)
    _, always = crops_of(labels, prob=1.0)
    _, half = crops_of(labels)
    chance = 3 * 5 / (9 * 15)  # of the crops that fit, those around it: rows 6-8, columns 10-14
    assert never[1] == pytest.approx(chance, abs=0.06)
    around = 1 / 3  # and some of those around a pixel of class 0 hold it too
    assert around < always[1] < around + 0.15
    assert half[1] == pytest.approx((never[1] + always[1]) / 2, abs=0.09)


def test_crops_around_a_pixel_reach_every_place_that_holds_it():
    labels = np.full((9, 11), 255, np.uint8)
    labels[4, 8] = 2
    corners, held = crops_of(labels, prob=1.0)
    assert held.tolist() == [0, 0, 1]
    assert set(corners) == {(y, x) for y in range(1, 5) for x in range(3, 6)}


def test_small_images_and_those_without_a_class_are_cropped_as_ever():
    empty = np.full((9, 11), 255, np.uint8)
    corners, held = crops_of(empty, prob=1.0)
    assert set(corners) == {(y, x) for y in range(6) for x in range(6)} and not held.any()
    corners, held = crops_of(np.zeros((3, 4), np.uint8), 20, prob=1.0)
    assert set(corners) == {(0, 0)}
    with pytest.raises(ValueError, match='prob of RareClassCrop.*1.5'):
        TRANSFORMS.build(dict(type='RareClassCrop', crop_size=(4, 6), prob=1.5))
