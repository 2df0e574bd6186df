"""Loaders of the user's own: what they give is checked, not the files that only they can read."""
from __future__ import annotations

import numpy as np
import pytest
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.config import Config
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from mmseg_esl.datasets import UnlabeledDataset
from mmseg_esl.datasets.bad_samples import BadDataError
from mmseg_esl.doctor.data import LabelCounts, check_files, check_labels
from mmseg_esl.doctor.lists import Lists, label_maps, scan_image

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@TRANSFORMS.register_module(force=True)
class LoadArray(LoadImageFromFile):
    """Any number of bands, from a NumPy file."""

    def transform(self, results):
        results['img'] = np.load(results['img_path'])
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module(force=True)
class LoadColourMask(LoadAnnotations):
    """Classes by their colours."""

    def _load_seg_map(self, results):
        pixels = np.array(Image.open(results['seg_map_path']).convert('RGB'))
        results['gt_seg_map'] = (pixels[..., None, :] == COLOURS).all(-1).argmax(-1)
        results['seg_fields'].append('gt_seg_map')


@TRANSFORMS.register_module(force=True)
class LoadWideMask(LoadAnnotations):
    """16 bits, in steps of 1000."""

    def transform(self, results):
        pixels = np.array(Image.open(results['seg_map_path'])).astype(np.int64)
        results['gt_seg_map'] = pixels // 1000
        results['seg_fields'].append('gt_seg_map')
        return results


def arrays(data, bands=12):
    """The images of the data set as arrays of many bands."""
    for path in (data.root / 'img').glob('*.jpg'):
        pixels = np.array(Image.open(path))
        np.save(path.with_suffix('.npy'), np.resize(pixels, (*pixels.shape[:2], bands)))
        path.unlink()


def colour_masks(data):
    for path in (data.root / 'ann').glob('*.png'):
        Image.fromarray(COLOURS[np.array(Image.open(path))]).save(path)


def wide_masks(data):
    for path in (data.root / 'ann').glob('*.png'):
        Image.fromarray(np.array(Image.open(path)).astype(np.uint16) * 1000).save(path)


def config(data, image='LoadArray', mask='LoadAnnotations', **unlabeled) -> dict:
    pack = [dict(type='RandomFlip', prob=0.0), dict(type='PackSegInputs')]
    suffix = '.npy' if image == 'LoadArray' else '.jpg'
    return dict(
        type='SemiDataset',
        labeled=data.labeled_cfg(img_suffix=suffix, pipeline=[
            dict(type=image), dict(type=mask), *pack]),
        unlabeled=data.unlabeled_cfg(**dict(dict(pipeline=[
            dict(type=image), dict(type='LoadEmptyAnnotations'), *pack]), **unlabeled)))


@pytest.mark.parametrize('image, mask, change', [
    ('LoadArray', 'LoadAnnotations', arrays),
    ('LoadImageFromFile', 'LoadColourMask', colour_masks),
    ('LoadImageFromFile', 'LoadWideMask', wide_masks)])
def test_what_stock_mmseg_trains_is_trained(data, image, mask, change):
    truth = np.array(Image.open(data.root / 'ann/a0.png'))
    change(data)
    more = dict(img_suffix='.npy') if change is arrays else {}
    semi = DATASETS.build(config(data, image, mask, **more))
    first, last = semi[0], semi[len(semi) - 1]
    assert first['inputs'].shape[0] == last['inputs'].shape[0] == (3 if change is not arrays
                                                                   else 12)
    np.testing.assert_array_equal(first['data_samples'].gt_sem_seg.data[0], truth)


def test_what_an_own_loader_gives_is_checked(data):
    semi = DATASETS.build(config(data, 'LoadImageFromFile', 'LoadWideMask'))
    for name, size, problem in (('a0', 24, 'label values 7'), ('a1', 9, r'shape \(9, 32\)')):
        Image.fromarray(np.full((size, 32), 7000, np.uint16)).save(data.root / f'ann/{name}.png')
        with pytest.raises(BadDataError, match=rf'{name}\.png.*{problem}'):
            semi[int(name[1])]


def test_damaged_files_of_an_own_loader_are_named(data):
    arrays(data)
    (data.root / 'img/a1.npy').write_bytes(b'not an array')
    semi = DATASETS.build(config(data, img_suffix='.npy'))
    with pytest.raises(BadDataError, match=r"labelled image '.*a1\.npy' cannot be used"):
        semi[1]


@TRANSFORMS.register_module(force=True)
class ForgetfulImage(LoadImageFromFile):
    """No image for one of the paths."""

    def transform(self, results):
        found = super().transform(results)
        return None if 'a1' in found['img_path'] else found


@TRANSFORMS.register_module(force=True)
class ForgetfulMask(LoadAnnotations):

    def transform(self, results):
        super().transform(results)


@TRANSFORMS.register_module(force=True)
class FailingMask(LoadAnnotations):

    def transform(self, results):
        raise OSError('the tape robot is on strike')


@TRANSFORMS.register_module(force=True)
class HalfClasses(LoadAnnotations):
    """Resized with interpolation."""

    def __init__(self, odd):
        super().__init__()
        self.odd = odd

    def transform(self, results):
        results = super().transform(results)
        results['gt_seg_map'] = results['gt_seg_map'].astype(np.float32)
        results['gt_seg_map'][0, 0] = self.odd
        return results


@TRANSFORMS.register_module(force=True)
class Choosy(BaseTransform):
    """A filter behind the image, which may ask for another one."""

    def transform(self, results):
        return results if 'a2' in results['img_path'] else None


def test_a_loader_that_gives_none_is_named_and_no_other_image_taken(data):
    semi = DATASETS.build(config(data, 'ForgetfulImage'))
    assert 'a0' in semi[0]['data_samples'].img_path
    with pytest.raises(BadDataError, match=r"image '.*a1\.jpg'.*ForgetfulImage gave None"):
        semi[1]
    with pytest.raises(BadDataError, match=r"mask '.*a0\.png'.*ForgetfulMask gave None"):
        DATASETS.build(config(data, 'LoadImageFromFile', 'ForgetfulMask'))[0]


def test_a_loader_that_gives_none_is_left_out_and_counted(data):
    semi = DATASETS.build(dict(config(data, 'ForgetfulImage'), on_error='skip'))
    assert 'a2' in semi[1]['data_samples'].img_path
    assert [path[-6:] for path in semi.bad_samples.skipped()] == ['a1.jpg']


def test_a_loader_that_raises_is_named_with_its_words(data):
    semi = DATASETS.build(config(data, 'LoadImageFromFile', 'FailingMask'))
    with pytest.raises(BadDataError, match=r"a0\.jpg' cannot be used: OSError: the tape robot"):
        semi[0]


@pytest.mark.parametrize('odd', [0.5, float('nan')])
def test_values_between_classes_are_refused(data, odd):
    cfg = config(data, 'LoadImageFromFile', 'HalfClasses')
    cfg['labeled']['pipeline'][1]['odd'] = odd
    with pytest.raises(BadDataError, match=r"a0\.png' cannot be used: .*no whole numbers"):
        DATASETS.build(cfg)[0]


def test_a_filter_behind_the_image_still_asks_for_another(data):
    cfg = config(data, 'LoadImageFromFile')
    cfg['labeled']['pipeline'].insert(2, dict(type='Choosy'))
    assert 'a2' in DATASETS.build(cfg)[0]['data_samples'].img_path


def test_the_doctor_names_a_loader_that_gives_none(data):
    lists = Lists.of(Config(dict(train_dataloader=dict(dataset=config(
        data, 'LoadImageFromFile', 'ForgetfulMask')))))
    assert all('ForgetfulMask gave None' in problem for _, _, problem in label_maps(lists))


@pytest.mark.parametrize('suffix', [None, '.npy'])
def test_arrays_are_listed(data, suffix):
    arrays(data)
    pipeline = config(data)['unlabeled']['pipeline']
    names = [f'{name}.npy' for name in data.unlabeled]
    data.write_list('arrays.txt', names)
    for ann_file, wanted in (('', 11), ('arrays.txt', len(names)), ('unlabeled.txt', len(names))):
        if ann_file == 'unlabeled.txt' and suffix is None:
            continue  # a stem says nothing of arrays
        found = UnlabeledDataset(**{key: value for key, value in data.unlabeled_cfg(
            ann_file=ann_file, img_suffix=suffix, pipeline=pipeline).items() if key != 'type'})
        assert len(found) == wanted
        assert found[0]['inputs'].shape[0] == 12
    assert [info['img_path'][-6:] for info in map(found.get_data_info, range(7))] == names


def test_the_doctor_reads_as_the_loader_does(data):
    arrays(data)
    colour_masks(data)
    lists = Lists.of(Config(dict(train_dataloader=dict(dataset=config(
        data, mask='LoadColourMask', ann_file='', img_suffix='.npy')))))
    paths = {path for group in lists.images.values() for path in group}
    scans = {path: scan_image(path, path not in lists.own) for path in paths}
    found = check_files(lists.images, scans)
    found += check_labels(LabelCounts(label_maps(lists)), ['a', 'b', 'c'], False)
    assert [finding.text for finding in found if finding.level == 'error'] == []
