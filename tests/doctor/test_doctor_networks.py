"""What the doctor says of good configs, and of data that is odd."""
from __future__ import annotations

import ast
import json
import os
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

import mmseg_esl.register  # noqa: F401
from mmseg_esl.datasets import UnlabeledDataset
from mmseg_esl.doctor import diagnose, leakage
from mmseg_esl.doctor.data import check_files, check_left_out, check_orientation
from mmseg_esl.doctor.findings import as_json, listed
from mmseg_esl.doctor.leakage import check_leakage
from mmseg_esl.doctor.lists import scan_image
from mmseg_esl.doctor.memory import measure


def stock(name, size=64, head=None, **backbone) -> dict:
    """One of mmseg's transformers, shrunk; stochastic depth as it is."""
    model = Config.fromfile(Config._get_cfg_path(
        f'mmseg::_base_/models/{name}.py', '')[0]).model.to_dict()
    model.update(pretrained=None, auxiliary_head=None, test_cfg=dict(mode='whole'))
    model['data_preprocessor']['size'] = (size, size)
    model['backbone'].update(backbone)
    model['backbone'].pop('init_cfg', None)
    model['decode_head'].update(dict(channels=8, num_classes=3), **head or {})
    return model


def vit(name):
    model = stock(name, head=dict(in_channels=[16] * 4), img_size=(64, 64), embed_dims=16,
                  num_layers=4, num_heads=2, mlp_ratio=1, out_indices=(0, 1, 2, 3),
                  drop_path_rate=0.1)
    if 'beit' in name:
        model['neck']['embed_dim'] = 16
    else:
        model['neck'].update(in_channels=[16] * 4, out_channels=16)
    return model


NETWORKS = dict(
    segformer=lambda: stock('segformer_mit-b0', embed_dims=8, num_layers=[1] * 4,
                            num_heads=[1, 1, 2, 2], head=dict(in_channels=[8, 8, 16, 16])),
    swin=lambda: stock('upernet_swin', embed_dims=8, depths=[1] * 4, num_heads=[1, 1, 2, 2],
                       window_size=4, head=dict(in_channels=[8, 16, 32, 64])),
    twins=lambda: stock('twins_pcpvt-s_upernet', embed_dims=[8, 8, 16, 16], depths=[1] * 4,
                        num_heads=[1, 1, 2, 2], head=dict(in_channels=[8, 8, 16, 16])),
    beit=lambda: vit('upernet_beit'), vit=lambda: vit('upernet_vit-b16_ln_mln'))


def config(segmentor) -> Config:
    return Config(dict(
        model=tiny.esl_cfg(segmentor=segmentor), train_cfg=dict(max_iters=10),
        train_dataloader=dict(batch_sampler=dict(num_labeled=2, num_unlabeled=2)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))


@pytest.mark.parametrize('name', NETWORKS)
def test_transformers_are_measured(name):
    cfg = config(NETWORKS[name]())
    sizes = measure(cfg)
    init_default_scope('mmseg')
    real = MODELS.build(cfg.model)
    assert sizes.trained == 4 * sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert sizes.activations > 0


def test_a_supervised_config_has_its_data_checked(tmp_path):
    tiny.write_data(tmp_path)
    data = tiny.data_cfg(tmp_path, ann_file='labeled.txt',
                         pipeline=[dict(type='LoadAnnotations')])
    cfg = Config(dict(
        model=tiny.segmentor(), default_scope='mmseg', train_cfg=dict(max_iters=10),
        train_dataloader=dict(dataset=data), val_dataloader=dict(dataset=data),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))
    found = diagnose(cfg)
    faults = [f for f in found if f.level == 'error']
    assert [f.check for f in faults] == ['overlap'] and 'validation' in faults[0].text
    assert any(f.check == 'classes' and 'images of 3' in f.text for f in found)
    (tmp_path / 'img/a1.png').write_bytes(b'nothing')
    assert any(f.check == 'files' and f.level == 'error' for f in diagnose(cfg))


# -------------------------------------------------------------------------------------- data


def images(folder, names) -> list:
    out = []
    for number, name in enumerate(names):
        pixels = np.random.RandomState(number).randint(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{name}.png')
        out.append(str(folder / f'{name}.png'))
    return out


def test_what_training_refuses_is_an_error(tmp_path):
    first, second = images(tmp_path, 'ab')
    lists = dict(labelled=[first], unlabelled=[first, second], validation=[])
    scans = {path: scan_image(path) for path in (first, second)}
    assert check_leakage(lists, scans, allow_overlap=False)[0].level == 'error'
    assert check_leakage(lists, scans, allow_overlap=True)[0].level == 'warning'


def test_every_name_is_told(tmp_path):
    paths = images(tmp_path, 'abcdefg')
    for path in paths:
        open(path, 'w').close()
    finding, = check_files(dict(labelled=paths, unlabelled=[], validation=[]),
                           {path: scan_image(path) for path in paths})
    said = json.loads(as_json([finding], 'config.py'))['findings'][0]
    assert said['names'] == paths and 'and 4 more' in said['text']
    assert listed('abcd') == "'a', 'b', 'c', 'd'" and listed('abcde').endswith('and 2 more')


def test_who_lists_some_names_gives_all():
    """Every finding whose text cuts a list short, by the doctor's own source."""
    cut = 0
    for path in Path(diagnose.__code__.co_filename).parent.glob('*.py'):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'Finding' and any(
                    getattr(getattr(inner, 'func', None), 'id', '') == 'listed'
                    or getattr(inner, 'id', '') in ('shown', 'sentence')
                    for inner in ast.walk(call)):
                cut += 1
                assert len(call.args) == 5 or any(
                    word.arg == 'names' for word in call.keywords), f'{path.name}:{call.lineno}'
    assert cut >= 10


def test_all_that_is_left_out_or_turned_is_named(tmp_path):
    paths = images(tmp_path, 'abcdefg')
    for path in paths:
        Path(path).with_suffix('.heic').touch()
    unlabeled = UnlabeledDataset(data_prefix=dict(img_path=str(tmp_path)), pipeline=[])
    finding, = check_left_out(SimpleNamespace(semi=SimpleNamespace(unlabeled=unlabeled)))
    assert finding.names == tuple(f'{name}.heic' for name in 'abcdefg')
    scans = {path: SimpleNamespace(turn=6) for path in paths}
    for finding in check_orientation(dict.fromkeys(('labelled', 'unlabelled', 'validation'), paths),
                                     scans):
        assert finding.names == tuple(paths)


@pytest.mark.parametrize('block', [1, 2, 128])
def test_images_that_are_alike_are_found_in_every_block(block, monkeypatch):
    monkeypatch.setattr(leakage, 'BLOCK', block)
    draw = np.random.RandomState(3)
    bits = draw.rand(5, 256) < 0.5
    near = bits ^ (np.arange(256) < leakage.NEAR)  # as many bits as may differ
    far = bits ^ (np.arange(256) < leakage.NEAR + 1)
    scans = {f'{name}{i}': SimpleNamespace(hash=np.packbits(row).tobytes())
             for name, rows in (('a', bits), ('near', near), ('far', far))
             for i, row in enumerate(rows)}
    first = [f'a{i}' for i in range(5)]
    assert leakage.alike(first, [f'near{i}' for i in (4, 0, 1, 3, 2)], scans) == [
        (f'a{i}', f'near{i}') for i in range(5)]
    assert leakage.alike(first, [f'far{i}' for i in range(5)], scans) == []


def test_one_unreadable_file_ends_nothing(tmp_path):
    good, = images(tmp_path, 'a')
    os.symlink('/proc/self/mem', tmp_path / 'b.png')  # a file whose reading is an error
    os.mkfifo(tmp_path / 'c.png')
    paths = [good, str(tmp_path / 'b.png'), str(tmp_path / 'c.png')]
    scans = {path: scan_image(path) for path in paths}
    assert [scans[path].problem for path in paths] == [
        '', 'it cannot be read (OSError)', 'it is no regular file']
    found = check_files(dict(labelled=paths, unlabelled=[], validation=[]), scans)
    assert len(found) == 2 and all(f.level == 'error' for f in found)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def test_a_huge_image_is_told(tmp_path):
    """A header alone: 30000 x 30000 are never decoded."""
    path = tmp_path / 'large.png'
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(
        b'IHDR', struct.pack('>IIBBBBB', 30000, 30000, 8, 2, 0, 0, 0)) + chunk(b'IEND', b''))
    finding, = check_files(dict(labelled=[str(path)], unlabelled=[], validation=[]),
                           {str(path): scan_image(str(path))})
    assert finding.level == 'warning' and '900' in finding.text and '2.5 GB' in finding.text
