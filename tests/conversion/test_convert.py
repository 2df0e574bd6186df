"""What convert_config.py makes of each part of a config, and what it refuses."""
import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import MODELS, TRANSFORMS

from mmseg_esl.conversion import Method, Refused, convert, methods, trial
from mmseg_esl.conversion.data import leaves, weak_view
from mmseg_esl.conversion.schedule import prefixed
from mmseg_esl.conversion.text import WIDTH, literal

TOOLS = Path(__file__).parents[2] / 'tools'
USER = f"""
default_scope = 'mmseg'
crop_size = (32, 32)
model = {tiny.segmentor(auxiliary=True)!r}
pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'), dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='mmseg.RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')]
images = dict(type='BaseSegDataset', data_root='data', pipeline=pipeline, img_suffix='.png',
              data_prefix=dict(img_path='img', seg_map_path='ann'), ann_file='labeled.txt',
              metainfo=dict(classes={tiny.CLASSES!r}))
train_dataloader = dict(batch_size=3, num_workers=2, persistent_workers=True,
                        sampler=dict(type='InfiniteSampler', shuffle=True), dataset=images)
val_dataloader = dict(batch_size=1, dataset=dict(type='BaseSegDataset', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='IoUMetric')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
param_scheduler = dict(type='PolyLR', end=100, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100, val_interval=10)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=20,
                                     save_best='mIoU', rule='greater'))
"""
EPOCHS = """
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=50, val_interval=5)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=5),
                   dict(type='MultiStepLR', milestones=[20, 40], begin=5, end=50)]
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=2))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the user works: more/ with images, and a supervised config."""
    monkeypatch.chdir(tmp_path)
    tiny.write_data(tmp_path / 'data')
    (tmp_path / 'more').mkdir()
    for path in (tmp_path / 'data/img').glob('b*.png'):
        path.rename(tmp_path / 'more' / path.name)
    return tmp_path


@pytest.fixture
def made(folder):
    """Convert USER with some lines of its own; gives the new config, its text and what was said."""
    def make(lines='', **options):
        (folder / 'base.py').write_text(USER)
        (folder / 'user.py').write_text(f"_base_ = './base.py'\n{lines}")
        found = convert('user.py', 'more', 'esl.py', **dict(dict(method='esl'), **options))
        (folder / 'esl.py').write_text(found.text)
        return Config.fromfile('esl.py'), found.text, found
    return make


# ------------------------------------------------------------------------------------- text

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(
        st.text('ab.', min_size=1) | st.sampled_from(['class', 'lambda', 'from', 'é']), inner),
    max_leaves=30)


@given(plain)
def test_literals_are_the_values(value):
    assert eval(literal(value)) == value


def test_what_python_has_no_word_for():
    value = {'lambda': float('-inf'), 'in': [float('inf')], 'more': dict(a=float('nan'))}
    found = eval(literal(value))
    assert found['lambda'] == value['lambda'] and found['in'] == value['in']
    assert found['more']['a'] != found['more']['a']


def test_a_name_of_several_lines_stays_in_the_comment(folder):
    (folder / 'more').rename(folder / 'more\nimport nothing_of_the_kind')
    (folder / 'base.py').write_text(USER)
    text = convert('base.py', 'more\nimport nothing_of_the_kind', 'esl.py', method='esl').text
    (folder / 'esl.py').write_text(text)
    assert '\n# import nothing_of_the_kind\n' in text
    assert Config.fromfile('esl.py').train_dataloader.dataset.unlabeled.data_prefix.img_path == \
        'more\nimport nothing_of_the_kind'


def test_literals_are_broken_into_lines():
    value = dict(type='X', items=[dict(type='Y', number=i, more='text' * 4) for i in range(5)])
    lines = literal(value).splitlines()
    assert eval('\n'.join(lines)) == value and len(lines) > 5
    assert max(map(len, lines)) <= WIDTH


# ------------------------------------------------------------------------------------- data


def kinds(pipeline):
    return [step['type'] for step in pipeline]


def test_weak_view_moves_pixels_and_nothing_else():
    crop = dict(type='RandomCrop', crop_size=(8, 8), cat_max_ratio=0.75)
    pipeline = [
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomApply', prob=0.5, transforms=[dict(type='CLAHE'),
                                                       dict(type='RandomRotate', degree=9)]),
        dict(type='RandomChoice', transforms=[[dict(type='Resize', scale=(8, 8))],
                                              [dict(type='Albu')]]),
        dict(type='RandomApply', transforms=[dict(type='AdjustGamma')]),
        dict(type='GenerateEdge'), crop, dict(type='Rerange'), dict(type='MyOwn'),
        dict(type='PackSegInputs', meta_keys=('img_path', ))]
    loading, view, dropped = weak_view(pipeline, {'Rerange', 'PackSegInputs'})
    assert kinds(loading) == ['LoadImageFromFile', 'LoadEmptyAnnotations']
    assert view == [
        dict(type='RandomApply', prob=0.5, transforms=[dict(type='RandomRotate', degree=9)]),
        dict(type='RandomChoice', transforms=[[dict(type='Resize', scale=(8, 8))], []]),
        dict(type='RandomCrop', crop_size=(8, 8)), dict(type='Rerange'), pipeline[-1]]
    assert dropped == ['CLAHE', 'Albu', 'AdjustGamma', 'GenerateEdge', 'RandomCrop.cat_max_ratio',
                       'MyOwn']
    assert crop['cat_max_ratio'] == 0.75  # the user's stays what it is


def test_jpeg_masks_are_said_and_counted(made, folder):
    for path in (folder / 'data/ann').glob('*.png'):
        path.rename(path.with_suffix('.jpg'))
    _, _, found = made("images = dict(seg_map_suffix='.jpg')\ntrain_dataloader = dict(dataset="
                       "dict(seg_map_suffix='.jpg'))")
    said = [sentence for sentence in found.check if 'JPEG' in sentence]
    assert len(said) == 1 and said[0].startswith('3 masks in data/ann are JPEG (*.jpg)')
    assert not [sentence for sentence in made()[2].check if 'JPEG' in sentence]


def test_what_lies_beside_the_images_is_said(made, folder):
    for name in ('a.heic', 'b.AVIF', 'c.gif', 'd.jp2', 'e.jfif', '@eaDir/f.jpg'):
        path = folder / 'more' / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    said = ' '.join(made()[2].check)
    assert '5 files are images of a kind that is not read' in said
    assert '1 folders of thumbnails were left out' in said and 'of 3 unlabelled' in ' '.join(
        made()[2].done)


def test_a_pipeline_that_is_kept_whole_is_said_to_be(made):
    _, text, found = made("""train_dataloader = dict(dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')]))""")
    assert 'weak view of the unlabelled images: your whole pipeline' in found.done
    assert '# your pipeline for images without labels; left out: nothing' in text
    left = 'your pipeline without RandomCrop.cat_max_ratio, PhotoMetricDistortion'
    assert f'weak view of the unlabelled images: {left}' in made()[2].done


def test_a_label_reader_of_ones_own_stays_with_the_labels():
    class LoadColours(LoadAnnotations):
        pass

    TRANSFORMS.register_module(module=LoadColours, force=True)
    loading, view, dropped = weak_view([
        dict(type='LoadImageFromFile'), dict(type='LoadColours'), dict(type='PackSegInputs')], ())
    assert kinds(loading + view) == ['LoadImageFromFile', 'LoadEmptyAnnotations', 'PackSegInputs']
    assert dropped == []


def test_datasets_are_found_inside_wrappers():
    one, two = dict(type='A'), dict(type='mmseg.B')
    nested = dict(type='RepeatDataset', times=2,
                  dataset=dict(type='ConcatDataset', datasets=[one, two]))
    assert leaves(nested) == [one, two]
    with pytest.raises(ValueError, match='is a MultiImageMixDataset'):
        leaves(dict(type='MultiImageMixDataset', dataset=one, pipeline=[]))


def test_the_plain_case(made):
    cfg, text, found = made()
    assert len(text.splitlines()) < 50
    semi = cfg.train_dataloader.dataset
    assert (semi.labeled, semi.type) == (cfg.images, 'SemiDataset')
    assert kinds(semi.unlabeled.pipeline) == [
        'LoadImageFromFile', 'LoadEmptyAnnotations', 'RandomCrop', 'mmseg.RandomFlip',
        'PackSegInputs']
    assert semi.unlabeled.pipeline[0].imdecode_backend == 'pillow'
    assert semi.unlabeled.pipeline[2] == dict(type='RandomCrop', crop_size=(32, 32))
    assert 'crop_size=_base_.crop_size' in text
    loader = cfg.train_dataloader
    assert (loader.batch_size, loader.num_workers) == (6, 2)
    assert loader.batch_sampler == dict(type='SemiBatchSampler', num_labeled=3, num_unlabeled=3)
    assert cfg.model.segmentor.decode_head.loss_decode.avg_non_ignore
    assert 'avg_non_ignore' not in cfg.model.segmentor.auxiliary_head.loss_decode
    assert cfg.train_cfg == dict(type='SemiTrainLoop', max_iters=100, val_interval=10)
    assert cfg.val_cfg.type == 'SemiValLoop'
    assert cfg.default_hooks.checkpoint == dict(
        type='SemiCheckpointHook', by_epoch=False, interval=20, save_best='teacher/mIoU',
        rule='greater')
    assert {'StepHook', 'PartInitHook', 'RunStateHook'} <= {
        hook['type'] for hook in cfg.default_hooks.values()}
    assert 'custom_hooks' not in cfg
    assert cfg.custom_imports.imports == ['mmseg_esl.register']
    assert any('auxiliary_loss' in sentence for sentence in found.check)


@pytest.mark.parametrize('lines', [
    "train_dataloader = dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))",
    'train_dataloader = dict(drop_last=True)',
    "train_dataloader = dict(batch_sampler=dict(type='Other', drop_last=True))",
    "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset="
    "dict(type='ConcatDataset', datasets=[_base_.images])))",
    "train_dataloader = dict(sampler=dict(shuffle=False), batch_size=1)",
])
def test_any_loader_becomes_one_of_both_sets(made, folder, lines):
    import torch
    from mmengine.runner import Runner
    cfg, _, _ = made(lines + '\nmodel = dict(decode_head=dict(num_classes=3))')
    assert cfg.train_dataloader.pop('num_workers') == 2
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batch = next(iter(loader))
    labeled = [sample.labeled for sample in batch['data_samples']]
    size = len(labeled) // 2
    assert labeled == [True] * size + [False] * size and size == (1 if 'False' in lines else 3)
    assert loader.batch_sampler.shuffle
    empty = torch.stack([sample.gt_sem_seg.data for sample in batch['data_samples'][size:]])
    assert (empty == 0).all() and torch.stack(batch['inputs']).shape == (2 * size, 3, 32, 32)


# ---------------------------------------------------------------------------------- training


def test_a_warm_up_by_iterations_stays_beside_a_schedule_of_epochs(made):
    warm = "dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=500)"
    cfg, _, _ = made(EPOCHS + f'param_scheduler = [{warm}, '
                     "dict(type='PolyLR', begin=0, end=50, by_epoch=True)]", max_iters=1000)
    assert [(each['by_epoch'], each['end']) for each in cfg.param_scheduler] == [
        (False, 500), (False, 1000)]


def test_a_metric_with_a_prefix_is_a_networks_too(made):
    cfg, _, _ = made("val_evaluator = dict(prefix='val')\n"
                     "default_hooks = dict(checkpoint=dict(save_best='val/mIoU'))")
    assert cfg.default_hooks.checkpoint.save_best == 'teacher/val/mIoU'


def test_layer_decay_keeps_its_constructor(made):
    cfg, _, _ = made("optim_wrapper = dict(constructor='LearningRateDecayOptimizerConstructor', "
                     "paramwise_cfg=dict(num_layers=6, custom_keys=dict(head=dict(lr_mult=10.))))")
    assert cfg.optim_wrapper.constructor == 'StudentOptimWrapperConstructor'
    assert cfg.optim_wrapper.paramwise_cfg == dict(
        num_layers=6, constructor='LearningRateDecayOptimizerConstructor',
        custom_keys=dict(head=dict(lr_mult=10.), projector=dict(lr_mult=10.)))


def test_lists_are_joined_and_other_averages_left_out(made):
    cfg, text, found = made(
        "custom_imports = dict(imports='json.tool', allow_failed_imports=False)\n"
        "custom_hooks = [dict(type='EMAHook'), dict(type='EarlyStoppingHook', monitor='mIoU')]")
    assert cfg.custom_imports.imports == ['mmseg_esl.register', 'json.tool']
    assert cfg.custom_hooks == [dict(type='EarlyStoppingHook', monitor='mIoU')]
    assert any('EMAHook' in sentence for sentence in found.done)
    assert any('EarlyStoppingHook' in sentence for sentence in found.check)


def test_imports_that_are_a_list(made):
    cfg, _, _ = made("custom_imports = dict(imports=['json.tool', 'json'])")
    assert cfg.custom_imports.imports == ['mmseg_esl.register', 'json.tool', 'json']


def test_hooks_of_the_user_stay(made):
    cfg, text, _ = made("custom_hooks = [dict(type='EarlyStoppingHook', monitor='mIoU')]\n"
                        "default_hooks = dict(timer=dict(type='IterTimerHook'), mine=dict(type="
                        "'Mine'))")
    assert 'custom_hooks' not in text and kinds(cfg.custom_hooks) == ['EarlyStoppingHook']
    assert cfg.default_hooks.mine.type == 'Mine' and cfg.default_hooks.step.type == 'StepHook'


def test_epochs_need_a_length_and_then_are_stretched(made):
    with pytest.raises(Refused, match='50 epochs.*--max-iters'):
        made(EPOCHS)
    cfg, _, _ = made(EPOCHS, max_iters=1000)
    assert cfg.train_cfg == dict(type='SemiTrainLoop', max_iters=1000, val_interval=100)
    first, second = cfg.param_scheduler
    assert (first.end, first.by_epoch) == (100, False)
    assert (second.milestones, second.begin, second.end) == ([400, 800], 100, 1000)
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.by_epoch, checkpoint.interval) == (False, 40)
    assert not cfg.log_processor.by_epoch


def test_another_length_stretches_iterations_too(made):
    cfg, _, _ = made(max_iters=50)
    assert (cfg.train_cfg.max_iters, cfg.param_scheduler[0].end) == (50, 50)
    assert (cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval) == (5, 10)


def test_validation_size_is_that_of_the_parts(made):
    cfg, _, _ = made("""
val_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 32), keep_ratio=True),
    dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))""")
    assert cfg.default_hooks.parts == dict(type='PartInitHook', transforms=[
        dict(type='Resize', scale=(64, 32), keep_ratio=True)])


def test_save_best(made):
    assert prefixed('mIoU', 'teacher') == 'teacher/mIoU' and prefixed('auto', 'teacher') == 'auto'
    assert prefixed(['mIoU', 'student/mAcc'], 'teacher') == ['teacher/mIoU', 'student/mAcc']
    # a config that keeps no best checkpoint, of a metric that may not be mIoU, keeps none
    cfg, _, _ = made('default_hooks = dict(checkpoint=dict(save_best=None))')
    assert cfg.default_hooks.checkpoint.save_best is None


# ------------------------------------------------------------------------------------- model


def test_several_losses_and_a_sigmoid(made):
    cfg, _, found = made("model = dict(decode_head=dict(loss_decode=[dict(type='CrossEntropyLoss', "
                         "use_sigmoid=True), dict(type='DiceLoss')]))")
    losses = cfg.model.segmentor.decode_head.loss_decode
    assert losses[0] == dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True)
    assert losses[1] == dict(type='DiceLoss')
    assert any('sigmoid' in sentence for sentence in found.check)


def test_a_classifier_of_another_name_is_found(made, folder, monkeypatch):
    (folder / 'own_head.py').write_text("""
from mmseg.models.decode_heads import FCNHead
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import MODELS, TRANSFORMS
from torch import nn

@MODELS.register_module(force=True)
class OwnHead(FCNHead):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stages = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(self.channels, self.num_classes, 1))
        del self.conv_seg
    def forward(self, inputs):
        return self.stages(self._forward_feature(inputs))
""")
    monkeypatch.syspath_prepend(str(folder))
    cfg, _, found = made(f"""
custom_imports = dict(imports=['own_head'])
model = dict(auxiliary_head=None, decode_head=dict(_delete_=True, **{tiny.fcn()!r}))
model['decode_head']['type'] = 'OwnHead'""")
    assert cfg.model.embedding == 'decode_head.stages.1'
    assert cfg.model.semi_train_cfg.variant == 'dsl+ctr'
    assert any('decode_head.stages.1' in sentence for sentence in found.done)


@pytest.mark.parametrize('lines, words', [
    ('model = dict(decode_head=dict(num_classes=2, out_channels=1, loss_decode=dict('
     'use_sigmoid=True)), auxiliary_head=None)', 'out_channels=1.*softmax channel'),
    ("train_dataloader = dict(_delete_=True)", 'no train_dataloader'),
    ("train_cfg = dict(_delete_=True)", 'no train_cfg'),
    ("train_cfg = dict(type='MyLoop')", "'MyLoop' is not one of mmengine's loops"),
    ('optim_wrapper = dict(_delete_=True)', 'no optim_wrapper'),
    ('model = dict(_delete_=True)', 'no model'),
    ("model = dict(type='NoSuch')", 'NoSuch'),
])
def test_refused_with_the_reason(made, lines, words):
    with pytest.raises(Refused, match=words):
        made(lines)


@pytest.mark.parametrize('name', methods())
def test_any_method_wraps_it(made, name):
    cfg, text, found = made(method=name)
    assert f'{name}/method.py' in text
    method = MODELS.get(cfg.model.type)
    parsed = method.parse_cfg(cfg.model.semi_train_cfg)
    roles = method.roles_of(parsed)
    best = cfg.default_hooks.checkpoint.save_best.split('/')[0]
    assert best == ('teacher' if 'teacher' in roles else 'student')
    more = 0 if name == 'supervised' else 3
    assert cfg.train_dataloader.batch_size == 3 + more
    assert cfg.train_dataloader.batch_sampler.num_unlabeled == more
    assert ('parts' in cfg.default_hooks) == ('PartInitHook' in method.hooks_of(parsed))
    said = next(line for line in found.done if line.startswith('validation'))
    assert said.split(': ')[1].split(' and ')[0] == f'{best}/mIoU'
    trial.step(cfg.model.segmentor.to_dict(), {
        key: value for key, value in cfg.model.to_dict().items() if key != 'segmentor'})


def test_the_first_setting_that_serves_is_taken(monkeypatch):
    model, tried = tiny.segmentor(), []

    def step(model, method):
        tried.append((method['embedding'], method['semi_train_cfg']['variant']))
        if len(tried) < 3:
            raise RuntimeError(f'no {len(tried)}. And more')
    monkeypatch.setattr(trial, 'step', step)
    init_default_scope('mmseg')
    given = {**tiny.esl_cfg(), 'embedding': 'decode_head.none'}
    settings, why = trial.find_settings(model, given)
    assert tried == [('decode_head.none', 'dsl+ctr'), ('decode_head.conv_seg', 'dsl+ctr'),
                     ('decode_head.none', 'dsl')]
    assert settings == dict(semi_train_cfg=dict(variant='dsl'))
    assert why == 'soft labels without the part-contrast (no 1)'
    assert given['semi_train_cfg']['variant'] == 'dsl+ctr'


@pytest.mark.parametrize('name, words', [
    ('pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes', 'PIDHead gives several outputs'),
    ('ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024', 'DDRHead gives several'),
    ('mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024', 'Mask2FormerHead classifies'),
])
def test_stock_heads_that_cannot_be_served(folder, name, words):
    with pytest.raises(Refused, match=words):
        convert(f'mmseg::{name}.py', 'more', 'esl.py')


def test_pure_python_configs_are_refused(folder):
    (folder / 'lazy.py').write_text('from mmengine.config import read_base\nwith read_base():\n'
                                    '    from .base import *\n')
    with pytest.raises(Refused, match=r"dump\('plain.py'\)"):
        convert('lazy.py', 'more', 'esl.py')


# -------------------------------------------------------------------------------- command line


def command(monkeypatch, *args):
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(sys, 'argv', ['convert_config.py', *args])
    runpy.run_path(str(TOOLS / 'convert_config.py'), run_name='__main__')


@pytest.mark.parametrize('args, words', [
    (['base.py', '--unlabeled', 'none', '--out', 'esl.py'], 'no such folder'),
    (['base.py', '--unlabeled', 'empty', '--out', 'esl.py'], 'no image'),
    (['none.py', '--unlabeled', 'more', '--out', 'esl.py'], 'none.py cannot be loaded'),
    (['mmseg::no/such.py', '--unlabeled', 'more', '--out', 'esl.py'], 'cannot be loaded'),
    (['base.py', '--unlabeled', 'more', '--out', 'there.py'], '--force'),
    (['base.py', '--unlabeled', 'more', '--out', 'no/esl.py'], 'no folder no'),
    (['base.py', '--unlabeled', 'more', '--out', 'esl.txt'], 'ends with .py'),
    (['base.py', '--unlabeled', 'more', '--out', 'esl.py', '--max-iters', '0'], 'positive'),
    (['base.py', '--unlabeled', 'more', '--out', 'esl.py', '--method', 'none'],
     'choose one of ' + ', '.join(sorted(
         path.parent.name for path in (TOOLS.parent / 'configs').glob('*/method.py')))),
])
def test_errors(monkeypatch, folder, args, words):
    (folder / 'base.py').write_text(USER)
    (folder / 'there.py').write_text('mine')
    (folder / 'empty').mkdir()
    with pytest.raises(SystemExit, match=words):
        command(monkeypatch, *args)
    assert not (folder / 'esl.py').exists() and (folder / 'there.py').read_text() == 'mine'


def test_force_and_what_is_said(monkeypatch, folder, capsys):
    (folder / 'base.py').write_text(USER)
    (folder / 'there.py').write_text('mine')
    command(monkeypatch, 'base.py', '--unlabeled', 'more', '--out', 'there.py', '--force')
    said = capsys.readouterr().out
    assert 'please check' in said and 'PhotoMetricDistortion' in said
    assert Config.fromfile('there.py').model.type == 'ESLPlus'
    with pytest.raises(SystemExit, match='is wrapped in ESLPlus already'):
        command(monkeypatch, 'there.py', '--unlabeled', 'more', '--out', 'esl.py')


def test_the_fair_baseline_beside_it(monkeypatch, folder, capsys):
    (folder / 'base.py').write_text(USER)
    command(monkeypatch, 'base.py', '--unlabeled', 'more', '--out', 'mine.py', '--also-supervised')
    mine, plain = Config.fromfile('mine.py'), Config.fromfile('mine_supervised.py')
    assert (mine.model.type, plain.model.type) == ('ESLPlus', 'Supervised')
    assert '\n# with the unlabelled images of\n' in Path('mine.py').read_text()
    assert '\n# without the unlabelled images of\n' in Path('mine_supervised.py').read_text()
    for same in ('train_cfg', 'param_scheduler', 'val_dataloader', 'val_evaluator'):
        assert mine[same] == plain[same], same
    one, two = mine.train_dataloader, plain.train_dataloader
    assert one.dataset == two.dataset  # the same lists, so compare.py pairs them
    assert one.batch_sampler.num_labeled == two.batch_sampler.num_labeled == 3
    assert (one.batch_sampler.num_unlabeled, two.batch_sampler.num_unlabeled) == (3, 0)
    said = capsys.readouterr().out.split('next:')[1].split('\n')
    tools = Path(os.path.relpath(TOOLS))  # commands that exist where the user stands
    assert [line.strip() for line in said if line] == [
        f'python {tools}/doctor.py mine.py', f'python {tools}/train.py mine.py',
        f'python {tools}/train.py mine_supervised.py',
        f'python {tools}/compare.py work_dirs/mine work_dirs/mine_supervised',
        f'python {tools}/report.py work_dirs/mine']
    (folder / 'mine.py').unlink()
    with pytest.raises(SystemExit, match='leave it out'):
        command(monkeypatch, 'base.py', '--unlabeled', 'more', '--out', 'other.py', '--method',
                'supervised', '--also-supervised')
    with pytest.raises(SystemExit, match='mine_supervised.py is there already'):
        command(monkeypatch, 'base.py', '--unlabeled', 'more', '--out', 'mine.py',
                '--also-supervised')
    assert not (folder / 'mine.py').exists()


@pytest.mark.parametrize('length, warm', [(100, 20), (90000, 2000)])
def test_unlabelled_images_count_after_a_share_of_the_run(made, length, warm):
    cfg, _, found = made(f'train_cfg = dict(max_iters={length})')
    keys = cfg.model.semi_train_cfg
    assert (keys.warmup_iters, keys.ramp_iters) == (warm, warm)
    assert f'count from iteration {warm} on, fully from {2 * warm} of {length}' in ' '.join(
        found.done)
    assert not any('alignment' in sentence or 'colours' in sentence for sentence in found.check)
    again, _, found = made(f'train_cfg = dict(max_iters={length})', max_iters=50,
                           method='esl_plus')
    for key in ('semi_train_cfg.alignment=0', 'alignment_margin=1', 'model.strong_view=None',
                'cat_max_ratio=0.75'):
        assert any(key in sentence for sentence in found.check)
    assert again.model.semi_train_cfg.warmup_iters == 10


@pytest.mark.parametrize('method, length, momentum', [
    ('esl_plus', 200, 0.9), ('esl_plus', 1000, 0.98), ('esl_plus', 2000, None),
    ('esl_plus', 20, 0.5), ('augseg', 2000, 0.99), ('augseg', 40000, None), ('cps', 200, None)])
def test_an_average_looks_back_over_a_share_of_a_short_run(made, method, length, momentum):
    cfg, _, found = made(f'train_cfg = dict(max_iters={length})', method=method)
    own = Method(method).momentum
    assert cfg.model.semi_train_cfg.get('ema_momentum', own) == (momentum or own)
    said = [sentence for sentence in found.done if 'ema_momentum' in sentence]
    assert len(said) == (momentum is not None) and all(str(momentum) in text for text in said)


def test_what_reports_need_is_written(made):
    cfg, _, _ = made()
    assert cfg.val_evaluator.type == 'PerClassIoUMetric'
    assert cfg.default_hooks.protocol.type == 'ProtocolHook'
    kept, _, _ = made("val_evaluator = dict(type='CityscapesMetric', output_dir='x')")
    assert kept.val_evaluator.type == 'CityscapesMetric'
    both, _, _ = made("val_evaluator = [dict(type='CityscapesMetric', output_dir='x'), "
                      "dict(type='IoUMetric', prefix='val')]")
    assert both.val_evaluator == [dict(type='CityscapesMetric', output_dir='x'),
                                  dict(type='PerClassIoUMetric', prefix='val')]


def test_masks_among_the_photos_are_said(made, folder):
    assert not any('masks' in sentence for sentence in made()[2].check)
    for name in ('b0_mask.png', 'masks/b1.png', 'b2.bmp'):
        (folder / 'more' / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / 'more/b0.png', folder / 'more' / name)
    said = '\n'.join(made()[2].check)
    assert "--unlabeled more: 2 images look like masks of others, by their names" in said
    assert "'b0_mask.png', 'masks/b1.png'" in said and "1 images have the name of another" in said
    said = '\n'.join(convert('user.py', '.', 'esl.py').check)  # photos, masks and all
    assert 'the masks in data/ann lie below --unlabeled' in said


def test_own_parts_fit_the_decoder_and_what_is_installed(made, monkeypatch):
    cfg, _, _ = made('model = dict(decode_head=dict(channels=24))')
    assert cfg.model.projector.channels == 24
    cfg, _, _ = made(method='esl_plus')
    assert cfg.model.strong_view.type == 'KorniaStrongView'
    monkeypatch.setattr('mmseg_esl.conversion.config.find_spec', lambda name: None)
    cfg, _, found = made(method='esl_plus')
    assert cfg.model.strong_view.type == 'RandomIntensity'
    assert any('mmseg_esl[strong]' in sentence for sentence in found.check)


def test_one_unlabelled_image_a_step_is_said(made):
    _, _, found = made('train_dataloader = dict(batch_size=1)')
    assert any('CutMix has nothing to mix' in sentence for sentence in found.check)
