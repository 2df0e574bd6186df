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
