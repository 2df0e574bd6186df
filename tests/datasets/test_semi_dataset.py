import copy
import os
import pickle
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmseg.datasets import LoadAnnotations
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from mmseg_esl.datasets import SemiDataset

WATCHERS = []  # an audit hook cannot be removed: one for all tests, reporting to this list


def _audit(event, args):
    if event == 'open':
        for watcher in WATCHERS:
            watcher.append(str(args[0]))


sys.addaudithook(_audit)


@contextmanager
def opened():
    """The paths of all files opened meanwhile."""
    paths = []
    WATCHERS.append(paths)
    try:
        yield paths
    finally:
        WATCHERS.remove(paths)


def loading(*names):
    return [dict(type=name) for name in ('LoadImageFromFile', *names, 'PackSegInputs')]


def loader_for(dataset, labeled=1, unlabeled=2):
    return Runner.build_dataloader(
        dict(
            batch_size=labeled + unlabeled,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            batch_sampler=dict(
                type='SemiBatchSampler', num_labeled=labeled, num_unlabeled=unlabeled),
            dataset=dataset),
        seed=0)


def run(loader, iterations=8):
    """Every image of both sets is read; returns the unlabelled samples."""
    seen = []
    for _, batch in zip(range(iterations), loader):
        seen += [s for s in batch['data_samples'] if not s.labeled]
    return seen


# ---------------------------------------------------------------------------- the items


def test_items(data):
    semi = DATASETS.build(data.semi_cfg())
    assert (len(semi), semi.num_labeled, semi.num_unlabeled) == (11, 4, 7)
    assert semi.metainfo['classes'] == ('ground', 'thing', 'sky')
    for i in range(11):
        item = semi[i]
        sample = item['data_samples']
        assert sample.labeled is (i < 4)
        name = (data.labeled + data.unlabeled)[i]
        assert os.path.basename(sample.img_path) == f'{name}.jpg'
        assert ('seg_map_path' in sample) is (i < 4)
        assert sample.gt_sem_seg.data.shape[-2:] == item['inputs'].shape[-2:]
    assert semi[-1]['data_samples'].img_path.endswith('b6.jpg')
    for index in (11, -12):
        with pytest.raises(IndexError, match=f'index {index} is outside its 11 images'):
            semi[index]


def test_labels_arrive_unchanged(data):
    cfg = data.semi_cfg(labeled=data.labeled_cfg(pipeline=loading('LoadAnnotations')))
    semi = DATASETS.build(cfg)
    for i, name in enumerate(data.labeled):
        truth = np.array(Image.open(data.root / 'ann' / f'{name}.png'))
        np.testing.assert_array_equal(semi[i]['data_samples'].gt_sem_seg.data[0], truth)


def test_pickled(data):
    semi = pickle.loads(pickle.dumps(DATASETS.build(data.semi_cfg())))
    assert len(semi) == 11 and semi[10]['data_samples'].labeled is False


def test_lazy(data):
    semi = DATASETS.build(data.semi_cfg(lazy_init=True, labeled=data.labeled_cfg(lazy_init=True)))
    assert not semi._fully_initialized
    assert len(semi) == 11 and semi.num_labeled == 4


@pytest.mark.parametrize('wrapper', ['ConcatDataset', 'RepeatDataset', 'both'])
def test_wrapped_labeled_set(data, wrapper):
    data.write_list('first.txt', ['a0', 'a1'])
    data.write_list('second.txt', ['a2'])
    parts = [data.labeled_cfg(ann_file='first.txt'), data.labeled_cfg(ann_file='second.txt')]
    cfg, expected = {
        'ConcatDataset': (dict(type='ConcatDataset', datasets=parts), [0, 1, 2]),
        'RepeatDataset': (dict(type='RepeatDataset', dataset=parts[0], times=3), [0, 1] * 3),
        'both': (dict(type='ConcatDataset', datasets=[parts[1], parts[0]]), [2, 0, 1]),
    }[wrapper]
    semi = DATASETS.build(data.semi_cfg(labeled=cfg))
    assert semi.num_labeled == len(expected)
    found = [semi[i]['data_samples'].img_path[-6:-4] for i in range(semi.num_labeled)]
    assert found == [f'a{i}' for i in expected]
    assert semi[semi.num_labeled]['data_samples'].img_path.endswith('b0.jpg')
    data.write_list('second.txt', ['gone'])
    with pytest.raises(FileNotFoundError) if wrapper != 'RepeatDataset' else nothing():
        DATASETS.build(data.semi_cfg(labeled=cfg))


@contextmanager
def nothing():
    yield


def test_wrapped_unlabeled_set(data):
    cfg = dict(type='ConcatDataset', datasets=[
        data.unlabeled_cfg(indices=2),
        data.labeled_cfg(ann_file='unlabeled.txt', indices=[5, 6],
                         pipeline=data.unlabeled_cfg()['pipeline'])])
    for part in cfg['datasets']:
        part['metainfo'] = {}
    cfg['datasets'][1]['metainfo'] = dict(classes=(), palette=[])
    cfg['ignore_keys'] = ['classes', 'palette', 'label_map', 'reduce_zero_label']
    semi = DATASETS.build(data.semi_cfg(unlabeled=cfg))
    assert semi.num_unlabeled == 4
    assert [semi[4 + i]['data_samples'].img_path[-6:-4] for i in range(4)] == [
        'b0', 'b1', 'b5', 'b6']
    assert 'seg_map_path' not in semi.get_data_info(7)
    assert 'seg_map_path' in semi.get_data_info(0)


# ------------------------------------------------- no label of an unlabelled image is read


def test_no_mask_opened(data, write):
    """The masks of the unlabelled images are there, as a temptation."""
    for name in data.unlabeled:
        write.mask(data.root / 'ann' / f'{name}.png')
    with opened() as paths:
        samples = run(loader_for(data.semi_cfg()))
    assert {os.path.basename(s.img_path) for s in samples} == {f'{n}.jpg' for n in data.unlabeled}
    masks = {os.path.basename(p) for p in paths if os.path.basename(os.path.dirname(p)) == 'ann'}
    assert masks == {f'{name}.png' for name in data.labeled}  # the hook does see masks
    assert {f'{name}.jpg' for name in data.unlabeled} <= {os.path.basename(p) for p in paths}


@pytest.fixture
def cityscapes(tmp_path, write):
    """A Cityscapes-shaped folder; the first town is labelled, the second unlabelled."""
    root = tmp_path / 'cityscapes'
    for town in ('aachen', 'bochum'):
        for i in range(3):
            stem = f'{town}/{town}_{i:06d}_000019'
            write.image(root / 'leftImg8bit' / 'train' / f'{stem}_leftImg8bit.png', seed=i)
            write.mask(root / 'gtFine' / 'train' / f'{stem}_gtFine_labelTrainIds.png', high=19)
    return root


def town_cfg(root, town, *loader):
    return dict(
        type='CityscapesDataset',
        data_root=str(root),
        data_prefix=dict(img_path=f'leftImg8bit/train/{town}', seg_map_path=f'gtFine/train/{town}'),
        pipeline=loading(*loader))


@pytest.mark.parametrize('masks', ['there', 'absent'])
def test_stock_dataset_as_unlabeled(cityscapes, masks):
    hidden = cityscapes / 'gtFine' / 'train' / 'bochum'
    if masks == 'absent':
        for path in hidden.iterdir():
            path.unlink()
        hidden.rmdir()
    cfg = dict(
        type='SemiDataset',
        labeled=town_cfg(cityscapes, 'aachen', 'LoadAnnotations'),
        unlabeled=town_cfg(cityscapes, 'bochum', 'LoadEmptyAnnotations'))
    with opened() as paths:
        samples = run(loader_for(cfg))
    assert len({s.img_path for s in samples}) == 3
    assert all('seg_map_path' not in s and not s.gt_sem_seg.data.any() for s in samples)
    assert not [p for p in paths if 'bochum' in p and 'gtFine' in p]
    assert [p for p in paths if 'aachen' in p and 'gtFine' in p]


@TRANSFORMS.register_module()
class NoseyTransform(BaseTransform):
    """Opens a mask without being called after one; stands for any transform of a user."""

    def transform(self, results):
        with open(results['seg_map_path'], 'rb'):
            return results


def test_even_a_disguised_reader_finds_no_path(cityscapes):
    semi = SemiDataset(
        town_cfg(cityscapes, 'aachen', 'LoadAnnotations'),
        town_cfg(cityscapes, 'bochum', 'LoadEmptyAnnotations', 'NoseyTransform'))
    with opened() as paths, pytest.raises(ValueError, match="KeyError: 'seg_map_path'"):
        semi[3]
    assert not [p for p in paths if 'gtFine' in p]
    first = town_cfg(cityscapes, 'bochum', 'NoseyTransform', 'LoadEmptyAnnotations')
    with pytest.raises(ValueError, match="KeyError: 'seg_map_path'"):
        SemiDataset(town_cfg(cityscapes, 'aachen', 'LoadAnnotations'), first)[3]


@TRANSFORMS.register_module()
class RenamedLoader(LoadAnnotations):
    pass


@TRANSFORMS.register_module()
class LeakyTransform(BaseTransform):

    def transform(self, results):
        results['gt_seg_map'][0, 0] = 7
        return results


READER = dict(type='LoadAnnotations')


@pytest.mark.parametrize('transform', [
    READER,
    dict(type='RenamedLoader'),
    dict(type='mmcv.LoadAnnotations'),
    dict(type='RandomApply', transforms=[READER]),
    dict(type='RandomChoice', transforms=[[dict(type='RandomFlip', prob=0.5)], [READER]]),
])
def test_label_reader_is_refused(data, transform):
    cfg = data.unlabeled_cfg()
    cfg['pipeline'][1] = transform
    with pytest.raises(ValueError, match=r'pipeline of unlabeled contains (LoadAnn|RenamedLoader).*'
                       'LoadEmptyAnnotations'):
        DATASETS.build(data.semi_cfg(unlabeled=cfg))


def test_label_dependent_crop_is_refused(data):
    cfg = data.unlabeled_cfg()
    cfg['pipeline'][3]['cat_max_ratio'] = 0.75
    with pytest.raises(ValueError, match=r'cat_max_ratio=0\.75.*Remove cat_max_ratio'):
        DATASETS.build(data.semi_cfg(unlabeled=cfg))
    labeled = data.labeled_cfg()
    labeled['pipeline'][3]['cat_max_ratio'] = 0.75  # fine where there are labels
    DATASETS.build(data.semi_cfg(labeled=labeled))


def test_forgotten_label_map(data):
    semi = SemiDataset(data.labeled_cfg(), data.unlabeled_cfg(pipeline=loading()))
    with pytest.raises(ValueError, match=r"b2\.jpg' came without a label map.*"
                       r"LoadEmptyAnnotations.*pipeline of unlabeled"):
        semi[6]
    semi = SemiDataset(data.labeled_cfg(pipeline=loading()), data.unlabeled_cfg())
    with pytest.raises(ValueError, match=r"a1\.jpg'.*'LoadAnnotations'"):
        semi[1]
    semi = SemiDataset(data.labeled_cfg(), data.unlabeled_cfg(pipeline=loading()[:1]))
    with pytest.raises(TypeError, match='PackSegInputs'):
        semi[4]


def test_leaked_label(data):
    pipeline = loading('LoadEmptyAnnotations', 'LeakyTransform')
    semi = SemiDataset(data.labeled_cfg(), data.unlabeled_cfg(pipeline=pipeline))
    with pytest.raises(ValueError, match=r"b0\.jpg' is not empty"):
        semi[4]


# --------------------------------------------------------------------------- bad input


def broken(data, error, *words, **changes):
    with pytest.raises(error) as caught:
        DATASETS.build(data.semi_cfg(**changes))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize('which', ['labeled', 'unlabeled'])
def test_missing_and_empty_lists(data, which):
    make = getattr(data, f'{which}_cfg')
    broken(data, FileNotFoundError, 'lost.txt', f'ann_file of {which}', 'Set ann_file',
           **{which: make(ann_file='lost.txt')})
    data.write_list('blank.txt', ['', ' '])
    broken(data, ValueError, 'blank.txt', f'ann_file of {which}', 'Write one image a line',
           **{which: make(ann_file='blank.txt')})
    (data.root / 'lists.d').mkdir()  # mmseg would take the whole folder of images
    broken(data, ValueError, 'lists.d', f'ann_file of {which}', 'is a folder',
           **{which: make(ann_file='lists.d')})
    broken(data, FileNotFoundError, 'nowhere', f'of {which} does not exist', 'data_root',
           **{which: make(data_prefix=dict(img_path='nowhere', seg_map_path='ann'))})


def test_a_folder_in_a_masks_place(data):
    (data.root / 'ann/a1.png').unlink()
    (data.root / 'ann/a1.png').mkdir()
    broken(data, FileNotFoundError, '1 files', 'a1.png', labeled=data.labeled_cfg())


def test_stock_voc_gets_our_sentence(data):
    """mmseg's PascalVOCDataset would raise a bare AssertionError."""
    cfg = data.labeled_cfg(type='PascalVOCDataset', ann_file='lost.txt')
    cfg.pop('metainfo')
    broken(data, FileNotFoundError, 'lost.txt', labeled=cfg)
    broken(data, FileNotFoundError, 'lost.txt', labeled=dict(
        type='RepeatDataset', times=2, dataset=cfg))


@pytest.mark.parametrize('which', ['labeled', 'unlabeled'])
@pytest.mark.parametrize('serialize', [True, False])
def test_empty_sets(data, which, serialize):
    (data.root / 'empty').mkdir()
    cfg = data.labeled_cfg(ann_file='', serialize_data=serialize)
    cfg['data_prefix'] = dict(img_path='empty', seg_map_path='ann')
    if which == 'unlabeled':
        cfg['pipeline'] = data.unlabeled_cfg()['pipeline']
    broken(data, ValueError, f'the {which} set holds no image', 'indices', **{which: cfg})
    broken(data, ValueError, 'holds no image', unlabeled=data.unlabeled_cfg(
        indices=0, serialize_data=serialize))


def test_missing_files(data):
    data.write_list('more.txt', ['a0', 'gone', 'a1.jpg', '', 'lost', 'a2'])
    broken(data, FileNotFoundError, '8 files', 'gone.jpg', 'gone.png', 'a1.jpg.jpg', 'and 5 more',
           'seg_map_suffix', labeled=data.labeled_cfg(ann_file='more.txt'))
    DATASETS.build(data.semi_cfg(labeled=data.labeled_cfg(ann_file='more.txt'), check_files=False))
    broken(data, FileNotFoundError, '2 of the images', 'line 2', 'gone',
           unlabeled=data.unlabeled_cfg(ann_file='more.txt'))
    stock = data.labeled_cfg(ann_file='more.txt', pipeline=data.unlabeled_cfg()['pipeline'])
    broken(data, FileNotFoundError, '4 images of the unlabelled set', 'gone.jpg', unlabeled=stock)


def test_missing_mask(data):
    (data.root / 'ann' / 'a2.png').unlink()
    broken(data, FileNotFoundError, '1 files', 'a2.png', 'seg_map_path')


def test_labeled_set_without_masks(data):
    broken(data, ValueError, 'a0.jpg', 'comes without a mask', 'seg_map_path=',
           labeled=data.labeled_cfg(data_prefix=dict(img_path='img')))


def test_overlap(data):
    data.write_list('unlabeled.txt', ['b0', *data.labeled])
    broken(data, ValueError, '4 images are both', 'a0.jpg', 'a2.jpg', 'and 1 more',
           'Remove them from the unlabelled list', 'allow_overlap=True')
    semi = DATASETS.build(data.semi_cfg(allow_overlap=True))
    assert semi.num_unlabeled == 5
    assert not semi[5]['data_samples'].gt_sem_seg.data.any()
    assert 'seg_map_path' not in semi[5]['data_samples']


@pytest.mark.skipif(sys.platform == 'win32', reason='links need rights there')
@pytest.mark.parametrize('link', ['file', 'folder'])
def test_overlap_through_links(data, link):
    if link == 'file':
        (data.root / 'other').mkdir()
        (data.root / 'other' / 'x.jpg').symlink_to(data.root / 'img' / 'a1.jpg')
        count = 1
    else:
        (data.root / 'other').symlink_to(data.root / 'img')
        count = 4
    broken(data, ValueError, f'{count} images are both', unlabeled=data.unlabeled_cfg(
        ann_file='', data_prefix=dict(img_path='other')))


def test_one_object_twice(data):
    dataset = DATASETS.build(data.labeled_cfg())
    broken(data, ValueError, 'share one dataset object', labeled=dataset, unlabeled=dataset,
           allow_overlap=True)
    broken(data, TypeError, 'labeled is a list', labeled=[1, 2])


@pytest.mark.parametrize('high, values', [(4, '3,'), (255, None)])
def test_label_values(data, write, high, values):
    write.mask(data.root / 'ann' / 'a1.png', high=high)
    semi = DATASETS.build(
        data.semi_cfg(labeled=data.labeled_cfg(pipeline=loading('LoadAnnotations'))))
    semi[0]
    with pytest.raises(ValueError) as caught:
        semi[1]
    for word in ('a1.png', 'classes are 0 to 2', 'reduce_zero_label', 'metainfo classes'):
        assert word in str(caught.value)
    assert ('label values 3, but' if high == 4 else ', ...') in str(caught.value)


def test_label_values_that_are_fine(data):
    values = np.full((24, 32), 255, np.uint8)
    values[:4] = 2
    Image.fromarray(values).save(data.root / 'ann' / 'a1.png')
    cfg = data.labeled_cfg(pipeline=loading('LoadAnnotations'))
    DATASETS.build(data.semi_cfg(labeled=cfg))[1]
    # without classes there is nothing to check against, unless num_classes says it
    unnamed = dict(copy.deepcopy(cfg), metainfo=None)
    DATASETS.build(data.semi_cfg(labeled=unnamed))[1]
    with pytest.raises(ValueError, match='label values 2, but the classes are 0 to 1'):
        DATASETS.build(data.semi_cfg(labeled=unnamed, num_classes=2))[1]


@pytest.mark.filterwarnings('ignore:Please pay attention')
def test_colour_mask_and_wrong_size(data, write):
    write.image(data.root / 'ann' / 'a0.png')
    write.mask(data.root / 'ann' / 'a1.png', size=(12, 16))
    semi = DATASETS.build(
        data.semi_cfg(labeled=data.labeled_cfg(pipeline=loading('LoadAnnotations'))))
    for i, problem in enumerate(('it has 3 channels.*palette', r'label map of shape \(12, 16\)')):
        with pytest.raises(ValueError, match=rf"a{i}\.png' cannot be used: .*{problem}"):
            semi[i]


# ------------------------------------------------------------------------------- retry


@TRANSFORMS.register_module()
class RejectImage(BaseTransform):

    def __init__(self, name=''):
        self.name = name

    def transform(self, results):
        return None if self.name in results['img_path'] else results


def rejecting(cfg, name):
    cfg['pipeline'].insert(1, dict(type='RejectImage', name=name))
    return cfg


def test_none_draws_another(data):
    semi = DATASETS.build(
        data.semi_cfg(
            labeled=rejecting(data.labeled_cfg(), 'a1'),
            unlabeled=rejecting(data.unlabeled_cfg(), 'b3')))
    for _ in range(5):
        for i in range(11):
            sample = semi[i]['data_samples']
            assert sample.labeled is (i < 4)
            name = os.path.basename(sample.img_path)[:2]
            assert name not in ('a1', 'b3') and name[0] == ('a' if i < 4 else 'b')
    semi = DATASETS.build(
        data.semi_cfg(unlabeled=rejecting(data.unlabeled_cfg(max_refetch=3), '')))
    with pytest.raises(Exception, match='Cannot find valid image after 3'):
        semi[4]


# ------------------------------------------------------------------------------ imports


def test_never_imports_models():
    code = ('import sys; from mmseg_esl import stack; stack.install(); '
            'import mmseg_esl.datasets; '
            'sys.exit(any(m.startswith("mmseg_esl.models") for m in sys.modules))')
    assert subprocess.run([sys.executable, '-c', code], timeout=120).returncode == 0


def test_collated_batch_is_stock(data):
    semi = DATASETS.build(data.semi_cfg())
    batch = pseudo_collate([semi[0], semi[5]])
    assert set(batch) == {'inputs', 'data_samples'} and len(batch['inputs']) == 2
