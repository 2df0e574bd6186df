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
