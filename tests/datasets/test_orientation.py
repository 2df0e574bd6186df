"""Images that their EXIF data ask to turn: one rule for training, doctor and prediction."""
import types

import mmcv
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmseg.registry import DATASETS
from PIL import Image, ImageOps

from mmseg_esl.datasets import BadDataError
from mmseg_esl.datasets.file_check import ORIENTATION, orientation
from mmseg_esl.datasets.pseudo import mask_folder, write_record
from mmseg_esl.doctor.data import check_orientation
from mmseg_esl.doctor.lists import scan_image
from mmseg_esl.predict.masks import Masker

KINDS = dict(jpg='JPEG', png='PNG', webp='WebP')


def exif(turn):
    data = Image.Exif()
    data[ORIENTATION] = turn
    return data


def marked(size):
    """A bright corner at the upper left, and its mask."""
    pixels, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    pixels[:8, :8], mask[:8, :8] = 255, 1
    return Image.fromarray(pixels), Image.fromarray(mask)


def plant(data, turn, kind='jpg', size=(24, 32), upright=False):
    """In place of the first labelled image; ``upright``: its mask is of the turned image."""
    image, mask = marked(size)
    path = data.root / 'img/a0.jpg'  # loaders go by the content
    image.save(path, KINDS[kind], exif=exif(turn))
    if upright:
        holder = mask.copy()
        holder.getexif()[ORIENTATION] = turn
        mask = ImageOps.exif_transpose(holder)
    mask.save(data.root / 'ann/a0.png')
    return str(path)


def build(data, **loader):
    cfg = data.semi_cfg()
    for which in ('labeled', 'unlabeled'):
        steps = [step for step in cfg[which]['pipeline'] if step['type'] not in (
            'RandomResize', 'RandomCrop', 'RandomFlip')]
        steps[0] = dict(steps[0], **loader)
        cfg[which]['pipeline'] = steps
    return DATASETS.build(cfg)


def overlap(item) -> float:
    """Share of the marked pixels that the mask marks."""
    bright = item['inputs'].float().mean(dim=0) > 128
    return float((item['data_samples'].gt_sem_seg.data[0][bright] == 1).float().mean())


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('turn, size', [(n, (24, 32)) for n in range(2, 9)] + [(6, (32, 32))])
def test_what_a_mask_cannot_say_is_refused(data, kind, turn, size):
    path = plant(data, turn, kind, size)
    with pytest.raises(BadDataError, match=f'orientation {turn}.*color_ignore_orient') as caught:
        build(data)[0]
    assert path in str(caught.value)
    assert overlap(build(data, color_type='color_ignore_orientation')[0]) > 0.9
    assert orientation((data.root / 'img/a0.jpg').read_bytes()) == turn
    labelled = dict(labelled=[path], unlabelled=[path], validation=[path])
    found = check_orientation(labelled, {path: scan_image(path)})
    assert [f.level for f in found] == ['warning', 'note', 'warning']
    assert all(path in f.text for f in found)


@pytest.mark.parametrize('turn', [5, 6, 7, 8])
def test_a_mask_of_the_turned_size_is_of_the_turned_image(data, turn):
    plant(data, turn, upright=True)
    assert overlap(build(data)[0]) > 0.9


@pytest.mark.parametrize('turn', [3, 6])
def test_masks_that_were_predicted_are_of_the_turned_image(data, turn):
    """The network that labelled them had it turned, whatever the size says."""
    plant(data, turn, size=(24, 24))
    image = LoadImageFromFile()(dict(img_path=str(data.root / 'img/a0.jpg')))['img']
    record = data.root / 'pseudo_labels.json'
    mask_folder(record).mkdir()
    Image.fromarray((image.mean(axis=2) > 128).astype(np.uint8)).save(mask_folder(record) / 'a.png')
    write_record(record, dict(what='pseudo labels', complete=True, masks={'a0.jpg': 'a.png'},
                              image_folder=str(data.root / 'img')))
    cfg = data.semi_cfg()
    steps = [step for step in cfg['labeled']['pipeline'] if not step['type'].startswith('Random')]
    cfg['labeled'] = dict(type='PseudoLabeledDataset', ann_file=str(record), pipeline=steps,
                          metainfo=dict(classes=('dark', 'bright')))
    cfg['allow_overlap'] = True
    assert overlap(DATASETS.build(cfg)[0]) > 0.9


def test_what_needs_no_turn_is_taken(data):
    path = plant(data, 1)
    assert overlap(build(data)[0]) > 0.9
    empty = dict(labelled=[path], unlabelled=[], validation=[])
    assert check_orientation(empty, {path: scan_image(path)}) == []
    marked((24, 32))[0].save(data.root / 'img/b0.jpg', exif=exif(6))
    item = build(data)[4]  # an unlabelled image is seen as it is to be seen
    assert item['inputs'].shape == (3, 32, 24)


@pytest.mark.parametrize('loader', [dict(), dict(color_type='color_ignore_orientation'),
                                    dict(imdecode_backend='pillow')], ids=str)
def test_pictures_lie_over_the_image_that_was_predicted(data, loader):
    path = plant(data, 3)
    step = LoadImageFromFile(**loader)
    masker = types.SimpleNamespace(pipeline=types.SimpleNamespace(transforms=[step]))
    seen = step(dict(img_path=path))['img']
    assert np.array_equal(Masker.read(masker, path), mmcv.bgr2rgb(seen))
