"""ProtocolHook in real runs: log, log folder, checkpoint; and its ids against the lists."""

import dataclasses
import glob
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from PIL import Image
from published_lists import LISTS, needed
from tiny import EMA, PARTS, esl_cfg, run, runner, segmentor, write_data

import mmseg_esl
from mmseg_esl.datasets.pseudo import write_record
from mmseg_esl.engine.describe import describe
from mmseg_esl.engine.hooks.protocol_hook import commit_of, image_ids, protocol_info
from mmseg_esl.methods.esl import ESLTrainCfg
from mmseg_esl.splits import protocol_of, read_ids

HOOKS = [EMA, PARTS, dict(type='ProtocolHook')]


def test_own_lists_of_a_run(tmp_path):
    write_data(tmp_path)
    made = runner(tmp_path / 'work', tmp_path, HOOKS, log_level='INFO', default_hooks=dict(
        checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=2)))
    made.train()
    wanted = protocol_of(['a0', 'a1', 'a2'], ['b0', 'b1', 'b2'])
    assert made.message_hub.get_info('protocol') == wanted
    path, = glob.glob(str(tmp_path / 'work/*/protocol.json'))
    assert Path(path).parent == Path(made.log_dir)
    found = json.loads(Path(path).read_text())
    assert (found['protocol'], found['published']) == (wanted, False)
    assert (found['labeled']['count'], found['unlabeled']['count']) == (3, 3)
    assert found['labeled']['sha256'].startswith(wanted.split('/')[1])
    # safe loading gives it back
    checkpoint = torch.load(tmp_path / 'work/iter_2.pth', weights_only=True)
    assert checkpoint['message_hub']['runtime_info']['protocol'] == wanted
    log, = glob.glob(str(tmp_path / 'work/*/*.log'))
    assert f'lists of this run: own lists (sha256 {wanted.split("/")[1]}' in Path(log).read_text()


def test_the_method_of_a_run(tmp_path):
    """Resolved settings, momentum of the hook's old name included; networks as in checkpoints."""
    write_data(tmp_path)
    hooks = [dict(type='TeacherEMAHook', momentum=0.5), PARTS, dict(type='ProtocolHook')]
    run(tmp_path, tmp_path, hooks, model=esl_cfg(mass=0.9, parts=3), default_hooks=dict(
        checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=2)))
    path, = (tmp_path / 'work').glob('*/run.json')
    said = json.loads(path.read_text())['method']
    assert (said['type'], said['name'], said['published_as']) == ('ESL', 'ESL', 'ESL eta=0.90 K=3')
    whole = ESLTrainCfg(mass=0.9, num_negatives=7, ema_momentum=0.5)
    assert {k: v for k, v in said['settings'].items() if '.' not in k} == dataclasses.asdict(whole)
    assert {k: v for k, v in said['settings'].items() if '.' in k} == {
        'part_memory.num_parts': 3, 'part_memory.queue_length': 4, 'part_memory.momentum': 0.99}
    assert set(said['settings']) - set(said['defaults']) == {
        'mass', 'num_negatives', 'ema_momentum', 'part_memory.num_parts',
        'part_memory.queue_length'}
    checkpoint = torch.load(tmp_path / 'work/iter_2.pth', weights_only=True)
    assert said['networks'] == checkpoint['meta']['networks']


def test_a_plain_run_has_no_method(tmp_path):
    write_data(tmp_path)
    run(tmp_path, tmp_path, [dict(type='ProtocolHook')], model=segmentor())
    path, = (tmp_path / 'work').glob('*/run.json')
    found = json.loads(path.read_text())
    assert 'method' not in found and found['seed'] == 0
    assert found['mmseg_esl'] == mmseg_esl.__version__ and found['world_size'] == 1
    assert found['versions'] == {name: importlib.import_module(name).__version__
                                 for name in ('mmcv', 'mmseg')}
    assert found['commit'] == commit_of(Path(mmseg_esl.__file__).parent)
    assert Path(sys.argv[0]).name in found['command']


def test_the_commit_of_a_folder(tmp_path, capfd):
    def git(*args):
        return subprocess.run(
            ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b', *args],
            check=True, capture_output=True, text=True).stdout.strip()

    git('init')
    assert commit_of(tmp_path) == 'not a checkout'  # it does not track the file
    (tmp_path / '__init__.py').write_text('')
    git('add', '__init__.py')
    git('commit', '-m', 'first')
    git('tag', 'v1')
    whole = git('rev-parse', 'HEAD')
    assert commit_of(tmp_path) == whole[:12]
    (tmp_path / '__init__.py').write_text('changed')
    assert commit_of(tmp_path) == f'{whole[:12]}-dirty'
    assert capfd.readouterr() == ('', '')  # git's words are nobody's business


@pytest.mark.parametrize('kind, semi, changed', [
    ('MeanTeacher', dict(consistency='hard'), {'consistency'}),  # its weight follows from it
    ('UniMatch', dict(strong_weights=(0.25, 0.25), threshold=0.9), {'threshold'}),
    ('ESLPlus', dict(clean_share=0.5, views=2), {'clean_share', 'views'}),  # not the one alone
    ('Supervised', dict(average=True), {'average'})])
def test_what_has_its_default(kind, semi, changed):
    init_default_scope('mmseg')
    found = describe(MODELS.build(dict(type=kind, segmentor=segmentor(), semi_train_cfg=semi)))
    assert set(found['settings']) - set(found['defaults']) == changed
    assert found['sees_unlabeled'] == (kind != 'Supervised')
    assert set(found['labels']) <= set(found['settings'])
    assert ('threshold' in found['labels']) == (kind == 'UniMatch')
    assert json.loads(json.dumps(found)) == found


def test_a_resumed_run_says_it_again(tmp_path):
    write_data(tmp_path)
    hooks = dict(checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=2))
    run(tmp_path, tmp_path, HOOKS, default_hooks=hooks)
    (tmp_path / 'unlabeled.txt').write_text('b0\nb1\n')
    made = run(tmp_path, tmp_path, HOOKS, default_hooks=hooks, max_iters=4, resume=True)
    assert made.iter == 4
    assert made.message_hub.get_info('protocol') == protocol_of(['a0', 'a1', 'a2'], ['b0', 'b1'])


def files(root, ids, suffix):
    for name in ids:
        path = root / f'{name}{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)


def build(**cfg):
    init_default_scope('mmseg')
    return DATASETS.build(dict(cfg, pipeline=[]))


def test_ids_of_datasets(tmp_path):
    """Folder or list, stems or paths, nested, repeated, joined: the ids are the lists'."""
    city = ['ulm/ulm_000000_000019', 'bonn/bonn_000000_000019']
    files(tmp_path / 'leftImg8bit/train', city, '_leftImg8bit.png')
    files(tmp_path / 'mine/x y', ['b', 'a.b'], '.png')
    root = dict(data_root=str(tmp_path))
    train = dict(data_prefix=dict(img_path='leftImg8bit/train'), **root)
    mine = dict(data_prefix=dict(img_path='mine'), **root)
    (tmp_path / 'l.txt').write_text('\n'.join(city))
    (tmp_path / 'm.txt').write_text('x y/b.png\nx y/a.b.png')
    listed = dict(type='CityscapesDataset', ann_file='l.txt', **train)
    assert image_ids(build(**listed)) == city == read_ids(tmp_path / 'l.txt')
    assert sorted(image_ids(build(type='UnlabeledDataset', **train))) == sorted(city)
    assert image_ids(build(type='UnlabeledDataset', ann_file='m.txt', **mine)) == ['x y/b',
                                                                                   'x y/a.b']
    assert image_ids(build(type='BaseSegDataset', img_suffix='.png', **mine)) == ['x y/a.b',
                                                                                  'x y/b']
    repeated = dict(type='RepeatDataset', times=3, dataset=dict(listed, pipeline=[]))
    init_default_scope('mmseg')
    assert image_ids(DATASETS.build(repeated)) == city
    joined = DATASETS.build(dict(type='ConcatDataset', datasets=[
        dict(type='UnlabeledDataset', pipeline=[], **prefix) for prefix in (train, mine)]))
    assert set(image_ids(joined)) == {*city, 'x y/b', 'x y/a.b'}
    files(tmp_path / 'seen', ['a', 'b'], '_rgb.png')
    (tmp_path / 's.txt').write_text('b\na')
    ours = build(type='BaseSegDataset', img_suffix='_rgb.png', ann_file='s.txt',
                 data_prefix=dict(img_path='seen'), **root)
    assert image_ids(ours) == ['b', 'a'] == read_ids(tmp_path / 's.txt')
    # what lies elsewhere keeps its folders, as in a list of it
    files(tmp_path / 'other', ['c'], '.png')
    (tmp_path / 'o.txt').write_text(f'{tmp_path}/other/c.png')
    elsewhere = build(type='UnlabeledDataset', ann_file='o.txt', **mine)
    assert image_ids(elsewhere) == read_ids(tmp_path / 'o.txt')
    # no SemiDataset: the labelled list alone
    found = protocol_info(build(**listed))
    assert found['protocol'] == protocol_of(city) and 'unlabeled' not in found


def test_images_with_pseudo_labels_are_no_labelled_ones(tmp_path):
    files(tmp_path / 'mine', ['a', 'b'], '.png')
    files(tmp_path / 'pseudo_labels', ['b'], '.png')
    write_record(tmp_path / 'pseudo_labels.json', dict(
        what='by a teacher', complete=True, image_folder=str(tmp_path / 'mine'),
        masks={'b.png': 'b.png'}))
    (tmp_path / 'l.txt').write_text('a')
    labeled = dict(type='BaseSegDataset', img_suffix='.png', ann_file='l.txt',
                   data_root=str(tmp_path), data_prefix=dict(img_path='mine'), pipeline=[])
    alone = protocol_info(build(**labeled))
    init_default_scope('mmseg')
    found = protocol_info(DATASETS.build(dict(type='ConcatDataset', datasets=[labeled, dict(
        type='PseudoLabeledDataset', ann_file=str(tmp_path / 'pseudo_labels.json'),
        pipeline=[])])))
    assert found['protocol'] == f'{alone["protocol"]}+pseudo' and 'pseudo_labels' not in alone
    assert found['pseudo_labels'] == ['by a teacher'] and found['labeled'] == alone['labeled']
    assert found['description'] == f'{alone["description"]}, with by a teacher'


@needed
def test_published_lists_as_mmseg_reads_them(tmp_path):
    """Through mmseg's dataset classes, from lists imported as docs/datasets.md says."""
    init_default_scope('mmseg')
    loads = dict(labeled=dict(type='LoadAnnotations'),
                 unlabeled=dict(type='LoadEmptyAnnotations'))
    for folder, kind, prefix, wanted in (
            ('cityscapes/1_8', 'CityscapesDataset', 'leftImg8bit/train', 'cityscapes-unimatch/1-8'),
            ('pascal/366', 'PascalVOCDataset', 'JPEGImages', 'voc-classic/1-4')):
        (tmp_path / prefix).mkdir(parents=True)
        semi = dict(type='SemiDataset', check_files=False)
        for part, load in loads.items():
            ids = read_ids(Path(LISTS) / 'unimatch' / folder / f'{part}.txt')
            (tmp_path / f'{part}.txt').write_text('\n'.join(ids) + '\n')
            semi[part] = dict(
                type=kind, ann_file=f'{part}.txt', data_root=str(tmp_path),
                data_prefix=dict(img_path=prefix, seg_map_path=prefix),
                pipeline=[dict(type='LoadImageFromFile'), load, dict(type='PackSegInputs')])
        found = protocol_info(DATASETS.build(semi))
        assert (found['protocol'], found['published']) == (wanted, True)
