"""A binary problem whose unlabelled images are a plain folder: nested, mixed suffixes, no mask."""
import math
import os

import numpy as np
import pytest
from cityscapes_folder import draw, write
from commands import logged, tool
from project import write_project


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The project's config made binary, one labelled and one unlabelled image a batch."""
    folder = tmp_path_factory.mktemp('binary')
    write_project(folder)
    rng, colours = np.random.default_rng(1), {0: (60, 90, 60), 1: (220, 180, 40)}
    for index in range(2):
        image, label = draw(rng, (48, 64), colours)
        write(folder / f'two/images/train{index}.png', image)
        write(folder / f'two/masks/train{index}.png', label)
    (folder / 'two/labeled.txt').write_text('train0\ntrain1\n')
    for name in ('a.jpg', 'deep/b.png', 'deep/er/c.JPG', 'deep/er/d.bmp', 'e.tif'):
        write(folder / 'drive' / name, draw(rng, (50, 70), colours)[0])
    path = folder / 'binary.py'
    path.write_text(f"""
_base_ = './esl.py'
metainfo = dict(_delete_=True, classes=('ground', 'thing'), palette=[[0, 0, 0], [9, 9, 9]])
model = dict(segmentor=dict(
    decode_head=dict(  # no pooling to 1 x 1: its batch norm cannot train on a single image
        _delete_=True, type='FCNHead', in_channels=64, in_index=3, channels=16, num_convs=1,
        num_classes=2, norm_cfg=_base_.norm_cfg),
    auxiliary_head=dict(num_classes=2)))
train_dataloader = dict(
    batch_size=2, batch_sampler=dict(num_labeled=1, num_unlabeled=1),
    dataset=dict(
        labeled=dict(data_root='{folder}/two', metainfo=metainfo,
                     data_prefix=dict(img_path='images', seg_map_path='masks')),
        unlabeled=dict(data_root='{folder}/drive', data_prefix=dict(img_path=''))))
train_cfg = dict(max_iters=4, val_interval=100)
""")
    return path


@pytest.mark.parametrize('variant', ['sup', 'hard', 'dsl', 'dsl+ctr'])
def test_variants_are_one_key_apart(config, monkeypatch, tmp_path, capsys, variant):
    tool(monkeypatch, 'train.py', config, '--work-dir', tmp_path, '--cfg-options',
         f'model.semi_train_cfg.variant={variant}', f'visualizer.name={variant}')
    said = capsys.readouterr().out  # the screen's
    assert ' train [4/4]  eta 0:00:00 ' in said and 'Config:' not in said
    last = said.splitlines()[-1]
    assert 'at iteration 4' in last and f'export_segmentor.py {os.path.relpath(tmp_path)}' in last
    steps = [entry for entry in logged(tmp_path) if 'loss' in entry]
    assert len(steps) == 4
    assert all(math.isfinite(value) for entry in steps for value in entry.values())
    terms = {key for key in steps[-1] if 'loss_' in key}
    assert terms == {'decode.loss_ce'} | ({'loss_sce'} if variant != 'sup' else set()) | (
        {'loss_ctr'} if 'ctr' in variant else set())
    for term in terms:
        assert steps[-1][term] > 0, term
