"""The value that is ignored is the config's: a network of three classes that ignores 3."""
import copy

import numpy as np
import pytest
import tiny
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_esl.datasets import BadDataError

TURN = dict(type='RandomRotate', prob=1.0, degree=(45, 45), pad_val=0)


@pytest.fixture
def data(tmp_path):
    """Every mask holds 3 beside its classes, in the first column."""
    tiny.write_data(tmp_path / 'data')
    for path in (tmp_path / 'data/ann').iterdir():
        mask = np.array(Image.open(path))
        mask[:, 0] = 3
        Image.fromarray(mask).save(path)
    return tmp_path / 'data'


@pytest.mark.parametrize('workers', [0, 1])
def test_it_trains(tmp_path, data, workers):
    """Masks and both pipelines use it; nobody but the head says so."""
    seg, loader = tiny.segmentor(), tiny.loader_cfg(data)
    seg['decode_head']['ignore_index'] = seg['data_preprocessor']['seg_pad_val'] = 3
    loader['num_workers'] = workers
    for which in ('labeled', 'unlabeled'):
        loader['dataset'][which]['pipeline'].insert(-1, dict(TURN, seg_pad_val=3))
    runner = tiny.run(tmp_path, data, [tiny.EMA], model=tiny.esl_cfg('dsl', segmentor=seg),
                      train_dataloader=loader, train_cfg=dict(
                          type='SemiTrainLoop', max_iters=2, val_interval=10))
    assert runner.iter == 2
    item = runner.train_dataloader.dataset[3]['data_samples']
    assert not item.labeled and item.gt_sem_seg.data.unique().tolist() == [0, 255]


def test_a_value_that_nobody_ignores_is_refused(data):
    dataset = DATASETS.build(tiny.loader_cfg(data)['dataset'])
    with pytest.raises(BadDataError, match='label values 3, .*0 to 2 .and 255.*ignore_index'):
        dataset[0]
    cfg = tiny.loader_cfg(data)['dataset']
    cfg['labeled']['ignore_index'] = 3  # mmseg's own key
    assert 3 in DATASETS.build(cfg)[0]['data_samples'].gt_sem_seg.data


@pytest.mark.parametrize('fill', [dict(TURN, seg_pad_val=0), dict(
    type='Pad', size=(64, 64), pad_val=dict(img=0, seg=0))], ids=lambda t: t['type'])
def test_padding_of_unlabelled_images_is_no_pixel(data, fill):
    """An empty label map says 0 where there is an image."""
    cfg = tiny.loader_cfg(data)['dataset']
    cfg['labeled']['pipeline'].insert(-1, fill)
    DATASETS.build(copy.deepcopy(cfg))
    cfg['unlabeled']['pipeline'].insert(-1, fill)
    with pytest.raises(ValueError, match=f"{fill['type']} in the pipeline of unlabeled pads .* 0"):
        DATASETS.build(cfg)
