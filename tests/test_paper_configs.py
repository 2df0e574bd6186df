"""Each ESL and supervised cell of the paper's tables has one config, and it is that cell's."""
import copy
import csv
import inspect
import re
import shlex
from argparse import ArgumentParser
from fractions import Fraction
from math import prod
from pathlib import Path

import pytest
import yaml
from config_files import CONFIGS, FOLDER, loaded
from mmengine.config import DictAction

import mmseg_esl.register  # noqa: F401
from mmseg_esl.conversion.config import Method, methods
from mmseg_esl.datasets import SemiBatchSampler, SemiDataset, UnlabeledDataset, UnlabeledShards
from mmseg_esl.datasets.sampler import counts_per_rank
from mmseg_esl.engine.hooks.audit_hook import PseudoLabelAuditHook
from mmseg_esl.engine.hooks.diagnostics_hook import DiagnosticsHook
from mmseg_esl.engine.hooks.finite_guard import FiniteGuardHook
from mmseg_esl.engine.hooks.part_init_hook import PartInitHook
from mmseg_esl.engine.loops.val_loop import SemiValLoop
from mmseg_esl.engine.resume.run_state import RunStateHook
from mmseg_esl.methods.esl import ESLTrainCfg
from mmseg_esl.methods.supervised import SupervisedTrainCfg
from mmseg_esl.models.part_memory import PartMemory
from mmseg_esl.models.projector import ESLProjector
from mmseg_esl.splits.published import row_of

ROOT = Path(__file__).parents[1]
with open(ROOT / 'docs/results/paper_results.csv', newline='') as file:
    ROWS = list(csv.DictReader(file))
METHODS = {'ESL': 'esl', 'Sup baseline': 'sup'}
BACKBONES = {'R50': 'r50', 'R101': 'r101', 'Xception-65': 'xception65'}
PARTITIONS = {  # as the file names have it, and the registry of published lists
    'voc_classic': ('voc-classic', {92: '1-16', 183: '1-8', 366: '1-4', 732: '1-2', 1464: 'full'}),
    'voc_blender': ('voc-blender', {662: '1-16', 1323: '1-8', 2646: '1-4', 5291: '1-2'}),
    'cityscapes': ('cityscapes', {186: '1-16', 372: '1-8', 744: '1-4', 1488: '1-2'}),
    'coco': ('coco', {925: '1-128', 1849: '1-64', 3697: '1-32'})}
PROTOCOLS = dict(voc_classic=['voc-classic'],
                 voc_blender=['voc-blender-u2pl', 'voc-blender-unimatch'],
                 cityscapes=['cityscapes-u2pl', 'cityscapes-unimatch'], coco=['coco-unimatch'])
# of all images; learning rate, weight decay, crop, epochs over the unlabelled ones; classes
SETTINGS = dict(voc=(10582, 1e-3, 1e-4, 513, 80, 21), cityscapes=(2975, 1e-2, 5e-4, 769, 200, 19),
                coco=(118287, 4e-3, 1e-4, 513, 30, 81))


def file_of(row) -> str:
    name, partitions = PARTITIONS[row['dataset']]
    partition = partitions[int(row['labelled'])]
    return f'{METHODS[row["method"]]}_{BACKBONES[row["backbone"]]}_{name}_{partition}.py'


CELLS = {file_of(row): row for row in ROWS if row['method'] in METHODS}


@pytest.fixture(params=sorted(CELLS))
def cell(request):
    return CELLS[request.param], loaded(FOLDER / request.param)


def test_one_config_for_each_cell():
    assert len(CELLS) == sum(row['method'] in METHODS for row in ROWS) == 58
    files = {path.name for path in FOLDER.glob('*.py')}
    assert set(CELLS) <= files
    # what is no cell of the paper's
    assert files - set(CELLS) == {'esl_lite0_camvid_1-16.py', 'method.py',
                                  'esl_dinov2-b14_voc-classic_1-16.py'}


def test_figure_is_said(cell):
    row, cfg = cell
    head = Path(cfg.filename).read_text().split('_base_')[0]
    assert f'The paper: {row["miou"]} mIoU.' in head
    assert re.search(rf'\b{row["labelled"]} of ', head)
    assert head.startswith('# ESL,' if row['method'] == 'ESL' else '# Supervised baseline,')


def test_index_has_the_same_figures():
    models = {f'{model["Name"]}.py': model for model in yaml.safe_load(
        (FOLDER / 'metafile.yaml').read_text())['Models']}
    assert {name for name, model in models.items() if 'Results' in model} == set(CELLS)
    for name, row in CELLS.items():
        figure, = models[name]['Results']['Metrics'].values()
        assert figure == float(row['miou'])
        meta = models[name]['Metadata']
        assert f' {row["labelled"]} of {setting(row)[0]} ' in meta['Training Data']
        assert meta['Batch Size'] == loaded(FOLDER / name).train_dataloader.batch_size


def setting(row):
    return SETTINGS[row['dataset'].split('_')[0]]


def test_schedule(cell):
    row, cfg = cell
    images, rate, decay, _, epochs, _ = setting(row)
    assert cfg.train_cfg.max_iters == int(
        Fraction(epochs * (images - int(row['labelled'])), 8))
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=rate, momentum=0.9, weight_decay=decay)
    rates = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert rates == dict(decode_head=dict(lr_mult=10), projector=dict(lr_mult=10))
    assert cfg.param_scheduler == [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False)]


def test_batch(cell):
    """8 + 8, or 8 alone, on any number of GPUs."""
    row, cfg = cell
    loader = cfg.train_dataloader
    given = {key: value for key, value in loader.batch_sampler.items() if key != 'type'}
    for world in (1, 2, 4, 8):
        share = counts_per_rank(world, loader.batch_size, **given)
        assert [world * n for n in share] == [8, 8 if row['method'] == 'ESL' else 0]
    with pytest.raises(ValueError, match='3 processes cannot share'):
        counts_per_rank(3, loader.batch_size, **given)


def test_network(cell):
    row, cfg = cell
    segmentor = cfg.model.segmentor
    head, backbone, classes = segmentor.decode_head, segmentor.backbone, setting(row)[-1]
    assert (head.type, head.num_classes, head.align_corners) == (
        'DepthwiseSeparableASPPHead', classes, True)
    if row['dataset'] == 'coco':
        assert (backbone.type, backbone.model_name, backbone.output_stride, backbone.out_indices) \
            == ('TIMMBackbone', 'xception65', 16, (1, 2, 3, 4))
        assert (head.in_channels, head.c1_in_channels) == (2048, 256)
    else:
        depth = int(row['backbone'][1:])
        assert (backbone.type, backbone.depth) == ('ResNetV1c', depth)
        assert segmentor.pretrained == f'open-mmlab://resnet{depth}_v1c'
        assert tuple(backbone.strides) == (1, 2, 1, 1)  # stride 8
        assert tuple(head.dilations) == (1, 12, 24, 36)
    if row['dataset'] == 'cityscapes':
        assert head.loss_decode == dict(
            type='OHEMCrossEntropyLoss', thresh=0.7, min_kept=100_000)
    else:
        assert head.loss_decode.type == 'CrossEntropyLoss' and head.loss_decode.avg_non_ignore


def test_method(cell):
    row, cfg = cell
    kinds = {hook.type for hook in cfg.default_hooks.values()}
    shared = {'StepHook', 'DiagnosticsHook', 'RunStateHook', 'FiniteGuardHook', 'ProtocolHook'}
    assert shared <= kinds and 'custom_hooks' not in cfg
    if row['method'] != 'ESL':
        assert set(cfg.model) == {'type', 'segmentor', 'semi_train_cfg', 'semi_test_cfg'}
        assert cfg.model.type == 'Supervised' and 'PartInitHook' not in kinds
        semi = SupervisedTrainCfg(**cfg.model.semi_train_cfg)
        assert (semi.average, semi.warmup_iters, semi.auxiliary_loss) == (False, 0, False)
        return
    semi = ESLTrainCfg(**cfg.model.semi_train_cfg)
    assert cfg.model.type == 'ESL' and semi.variant == 'dsl+ctr' and 'PartInitHook' in kinds
    assert (semi.mass, semi.sce_weight, semi.ctr_weight, semi.confidence) == (0.95, 0.2, 0.1, 0.95)
    assert (semi.anchor_fraction, semi.num_negatives, semi.temperature) == (0.1, 255, 0.5)
    assert (semi.warmup_iters, semi.ramp_iters, semi.auxiliary_loss) == (0, 0, False)
    assert (semi.ema_momentum, semi.ema_schedule) == (0.99, 'rising')
    assert (semi.ema_buffers, semi.teacher_mode, semi.joint_forward) == (True, 'eval', True)
    assert (semi.cutmix, semi.cutmix_prob, semi.cutmix_area) == ('batch', 0.5, 0.5)
    assert (semi.cutmix_partner, semi.sampling, semi.global_average) == ('next', 'batch', True)
    assert (semi.negatives, semi.part_resolution, semi.max_anchors) == ('shared', 'embedding', None)
    assert cfg.model.embedding == 'decode_head.conv_seg'
    assert cfg.model.projector == dict(type='ESLProjector', channels=512, num_convs=3)
    assert cfg.model.part_memory == dict(
        type='PartMemory', num_parts=5, queue_length=256, momentum=0.99)
    # hooks have no settings but their defaults, which are the paper's where it has any
    for name in ('step', 'diagnostics', 'run_state', 'finite_guard', 'protocol', 'parts'):
        assert set(cfg.default_hooks[name]) == {'type'}, name
    init = PartInitHook()
    assert (init.begin, init.max_samples, init.adaptive, init.transforms) == (0, 4096, None, [])


def test_lists(cell):
    row, cfg = cell
    data, labelled = cfg.train_dataloader.dataset, int(row['labelled'])
    partition = PARTITIONS[row['dataset']][1][labelled]
    folders = set()
    for part, count in (('labeled', labelled), ('unlabeled', setting(row)[0] - labelled)):
        path = Path(data[part].ann_file)
        assert path.name == f'{part}.txt' and path.parent.name == partition
        folders.add(path.parent.parent.as_posix())
        for protocol in PROTOCOLS[row['dataset']]:
            assert row_of(protocol, partition, part).count == count
    assert folders == {dict(voc_classic='splits/voc-classic', voc_blender='splits/voc-blender-u2pl')
                       .get(row['dataset'], 'splits')}


def test_weak_view(cell):
    """Flip, resize 0.5-2.0 and crop; nothing that changes colours."""
    row, cfg = cell
    size = (setting(row)[3],) * 2
    scale = dict(voc=(500, 500), cityscapes=(2048, 1024), coco=(640, 640))
    expected = [
        dict(type='RandomResize', scale=scale[row['dataset'].split('_')[0]],
             ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=size), dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs')]
    data = cfg.train_dataloader.dataset
    assert data.labeled.pipeline[2:] == data.unlabeled.pipeline[2:] == expected
    assert tuple(cfg.model.segmentor.data_preprocessor['size']) == size
    assert not cfg.model.get('strong_view')


def test_evaluation(cell):
    """VOC: centre crop in training, whole image in tools/test.py; Cityscapes: sliding window."""
    row, cfg = cell
    dataset, student = row['dataset'].split('_')[0], row['method'] != 'ESL'
    val, test = ([t.type for t in loader.dataset.pipeline]
                 for loader in (cfg.val_dataloader, cfg.test_dataloader))
    plain = ['LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']
    assert test == plain == [t.type for t in cfg.test_pipeline]
    assert val == ([*plain[:2], 'EvaluatedCenterCrop', plain[2]] if dataset == 'voc' else plain)
    if dataset == 'voc':
        assert cfg.val_dataloader.dataset.pipeline[2].crop_size == (513, 513)
    slide = dict(mode='slide', crop_size=(769, 769), stride=(513, 513))
    assert cfg.model.segmentor.test_cfg == (slide if dataset == 'cityscapes' else
                                            dict(mode='whole'))
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert 'val' in ' '.join([loader.dataset.get('ann_file', ''),
                                  *loader.dataset.data_prefix.values()])
        assert loader.dataset.type == cfg.train_dataloader.dataset.labeled.type
        if dataset == 'voc':  # VOC's own masks; SBD's are of training images
            assert loader.dataset.data_prefix == dict(
                img_path='JPEGImages', seg_map_path='SegmentationClass')
    assert cfg.val_cfg == dict(type='SemiValLoop')
    assert cfg.val_evaluator == cfg.test_evaluator == dict(
        type='PerClassIoUMetric', iou_metrics=['mIoU'])
    which = 'student' if student else 'teacher'
    assert cfg.default_hooks.checkpoint.save_best == f'{which}/mIoU'
    assert cfg.model.semi_test_cfg.predict_on == which


def flat(value, name=''):
    """Nested dicts and lists as {'a.b.0': value}."""
    if isinstance(value, (dict, list, tuple)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, inner in items for k, v in flat(inner, f'{name}.{key}').items()}
    return {name[1:]: value}


def difference(first: str, second: str) -> set:
    """Keys in which they differ; what the methods themselves are left aside, if they are two."""
    cfgs = [loaded(FOLDER / name)._cfg_dict.to_dict() for name in (first, second)]
    own = {'method', 'method_hooks'}
    if len({cfg['model']['type'] for cfg in cfgs}) > 1:
        own |= {f'model.{key}' for cfg in cfgs for key in cfg['model']
                if key not in ('segmentor', 'semi_test_cfg')}
    one, two = map(flat, cfgs)
    return {key for key in {*one, *two} if one.get(key, KeyError) != two.get(key, KeyError)
            and not any(key == name or key.startswith(f'{name}.') for name in own)}


BASELINE = {'model.semi_test_cfg.predict_on', 'train_dataloader.batch_size',
            'train_dataloader.batch_sampler.total_unlabeled',
            'default_hooks.checkpoint.save_best', 'default_hooks.parts.type'}
DEEPER = {'model.segmentor.pretrained', 'model.segmentor.backbone.depth'}
MORE = {'num_labeled', 'num_unlabeled', 'train_cfg.max_iters',
        'train_dataloader.dataset.labeled.ann_file', 'train_dataloader.dataset.unlabeled.ann_file',
        'lists.labeled.ann_file', 'lists.unlabeled.ann_file'}


@pytest.mark.parametrize('name', sorted(CELLS))
def test_neighbours_differ_in_one_thing(name):
    row = CELLS[name]
    sizes = sorted(PARTITIONS[row['dataset']][1])
    near = {('method', 'Sup baseline'): BASELINE, ('backbone', 'R101'): DEEPER}
    near.update({('labelled', str(size)): MORE for size in sizes if size > int(row['labelled'])})
    for (key, value), expected in near.items():
        if row[key] != value and not (key == 'backbone' and row['dataset'] == 'coco'):
            assert difference(name, file_of({**row, key: value})) == expected, (key, value)


def test_protocols_differ_in_lists_alone():
    assert difference('esl_r50_voc-classic_1-4.py', 'esl_r50_voc-blender_1-4.py') == MORE


# ------------------------------------------------------------------------------------- ablations

ABLATIONS = {  # name in the CSV -> what arrives
    'CE': dict(variant='sup'), 'CE + hard label': dict(variant='hard'),
    'CE + hard label + CTR': dict(variant='hard+ctr'), 'CE + DSL': dict(variant='dsl'),
    'CE + top-5': dict(variant='topk', topk=5), 'ESL (CE + DSL + CTR)': {},
    'ESL K=0': dict(variant='dsl'),
    **{f'CE + DSL eta={mass}': dict(variant='dsl', mass=float(mass))
       for mass in ('0.80', '0.90', '0.95', '0.99')},
    **{f'ESL K={k}': dict(num_parts=k) for k in (1, 3, 5, 7, 10)},
    **{f'ESL lambda{i}={weight}': {key: float(weight)}
       for i, key in ((1, 'sce_weight'), (2, 'ctr_weight'))
       for weight in ('0.01', '0.05', '0.1', '0.2', '0.5')}}


def documented() -> dict:
    """name -> (figure, options) of the rows of docs/reproduce.md's table of ablations."""
    found = {}
    text = (ROOT / 'docs/reproduce.md').read_text().partition('## Ablations')[2]
    for line in text.partition('\n## ')[0].splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('|') and len(cells) == 3 and re.fullmatch(r'\d\d\.\d\d', cells[1]):
            assert cells[0] not in found
            found[cells[0]] = (cells[1], cells[2].strip('`') if '`' in cells[2] else '')
    return found


def test_each_ablation_is_documented():
    said = {row['method']: row['miou'] for row in ROWS
            if row['dataset'] == 'voc_classic' and row['method'] in ABLATIONS}
    assert {name: figure for name, (figure, _) in documented().items()} == said
    assert set(said) == set(ABLATIONS)
    others = {row['method'] for row in ROWS if re.search('ESL|DSL|CE', row['method'])}
    assert others == {*ABLATIONS, 'ESL'}


@pytest.mark.parametrize('name', sorted(ABLATIONS))
def test_ablation_arrives(name):
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    options = documented()[name][1]
    given = parser.parse_args(shlex.split(f'--cfg-options {options}' if options else ''))
    cfg = copy.deepcopy(loaded(FOLDER / 'esl_r101_voc-classic_full.py'))
    before = {**flat(cfg.model.semi_train_cfg.to_dict()),
              'num_parts': cfg.model.part_memory.num_parts}
    cfg.merge_from_dict(given.cfg_options)
    after = {**vars(ESLTrainCfg(**cfg.model.semi_train_cfg)),
             'num_parts': cfg.model.part_memory.num_parts}
    expected = {**before, **ABLATIONS[name]}
    assert {key: after[key] for key in expected} == expected


# ------------------------------------------------------------------------------------- documents

@pytest.mark.parametrize('page', ['reproduce.md', 'configs.md', 'datasets.md', 'audit.md'])
def test_files_that_pages_name_are_there(page):
    text = (ROOT / 'docs' / page).read_text()
    named = set(re.findall(r'(?:configs/esl|tools|docs)/[\w./-]+\.(?:py|sh|md|csv)', text))
    assert named and not [path for path in named if not (ROOT / path).is_file()]


def defaults(target) -> dict:
    """Argument -> default, as repr; of a dataclass or an __init__."""
    given = inspect.signature(target).parameters.values()
    return {p.name: repr(p.default) for p in given
            if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty}


@pytest.mark.parametrize('target, left_out', [
    *((Method(name).model.cfg_class, ()) for name in methods()),
    (PartMemory, ()), (ESLProjector, ('init_cfg',)),
    (PartInitHook, ()), (DiagnosticsHook, ()), (RunStateHook, ()), (FiniteGuardHook, ()),
    (PseudoLabelAuditHook, ()),
    (SemiDataset, ()), (UnlabeledDataset, ()), (UnlabeledShards, ()), (SemiValLoop, ('fp16',)),
    (SemiBatchSampler, ('num_labeled', 'num_unlabeled', 'total_labeled', 'total_unlabeled'))],
    ids=lambda value: getattr(value, '__name__', ''))
def test_every_key_is_in_the_page(target, left_out):
    """With its default."""
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in (ROOT / 'docs/configs.md').read_text().splitlines() if line[:1] == '|']
    for key, default in defaults(target).items():
        if key not in left_out:
            assert any(f'`{key}`' in row and f'`{default}`' in row for row in rows), (key, default)


def test_excerpt_in_the_page():
    page = (ROOT / 'docs/configs.md').read_text().replace('  # 200 * 2231 // 8', '')
    for name in ('esl/esl_r50_cityscapes_1-4.py', '_base_/partitions/cityscapes_1-4.py'):
        text = (FOLDER.parent / name).read_text()
        assert f'```python\n# configs/{name}\n{text[text.index("_base_ ="):]}```' in page


def test_there_is_nothing_else():
    ours = [path for path in CONFIGS if FOLDER in path.parents]
    assert len(ours) == len(CELLS) + 2 + 2  # beyond the paper, and the demo's


# --------------------------------------------------------------------------------- other methods

QUOTED = {'supervised': 'Sup baseline', 'mean_teacher': 'MT', 'cps': 'CPS'}


@pytest.mark.parametrize('method', sorted(QUOTED))
def test_figures_that_are_quoted_from_the_tables(method):
    """In the README, all there are; in the leaves of ResNet-50 and Xception-65, each."""
    text = (FOLDER.parent / method / 'README.md').read_text()
    rows = [row for row in ROWS if row['method'] == QUOTED[method]]
    assert rows
    for row in rows:
        assert re.search(rf'\b{re.escape(row["miou"])}\b', text), row
        if row['backbone'] != 'R101':
            name, partitions = PARTITIONS[row['dataset']]
            leaf = (f'{method}_{BACKBONES[row["backbone"]]}_{name}_'
                    f'{partitions[int(row["labelled"])]}.py')
            head = (FOLDER.parent / method / leaf).read_text().partition('_base_')[0]
            assert f': {row["miou"]} mIoU.' in head and f' {row["labelled"]} of ' in head


@pytest.mark.parametrize('method', ['supervised', 'mean_teacher', 'fixmatch', 'unimatch', 'cps'])
def test_a_leaf_for_each_partition(method):
    cells = {f'{method}_r50_{name}_{partition}.py' for key, (name, parts) in PARTITIONS.items()
             for partition in parts.values() if key != 'coco'}
    cells.add(f'{method}_lite0_camvid_1-16.py')
    if method == 'supervised':
        cells |= {f'supervised_xception65_coco_{part}.py' for part in ('1-32', '1-64', '1-128')}
    if method == 'cps':  # each with CutMix too
        cells |= {name.replace('cps_', 'cps_cutmix_', 1) for name in cells}
    folder = FOLDER.parent / method
    assert {path.name for path in folder.glob('*.py')} == cells | {'method.py'}
    for path in folder.glob(f'{method}_r50_*.py'):
        ours, theirs = (loaded(p) for p in (FOLDER / path.name.replace(method, 'esl'), path))
        assert theirs.lists == ours.lists  # whatever the recipe, the images are the same
        assert theirs.train_dataloader.batch_sampler.total_labeled == 8


@pytest.mark.parametrize('method', ['fixmatch', 'unimatch'])
@pytest.mark.parametrize('cell, crop, rate, epochs, threshold', [
    ('voc-classic_1-16', 321, 1e-3, 80, 0.95), ('voc-blender_1-8', 513, 1e-3, 80, 0.95),
    ('cityscapes_1-4', 801, 5e-3, 240, 0.0)])
def test_recipe_of_unimatch(method, cell, crop, rate, epochs, threshold):
    cfg = loaded(FOLDER.parent / method / f'{method}_r50_{cell}.py')
    assert cfg.train_cfg.max_iters == epochs * cfg.num_unlabeled // 8
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=rate, momentum=0.9, weight_decay=1e-4)
    head = cfg.optim_wrapper.paramwise_cfg.custom_keys.get('decode_head', {}).get('lr_mult', 1)
    assert head == (1 if 'city' in cell else 10)
    assert tuple(cfg.model.segmentor.data_preprocessor['size']) == (crop, crop)
    assert stride(cfg) == 16 and cfg.model.segmentor.decode_head.dropout_ratio == 0
    assert tuple(cfg.model.segmentor.decode_head.dilations) == (1, 6, 12, 18)
    assert cfg.model.semi_train_cfg.threshold == threshold
    assert cfg.model.strong_view == dict(type='KorniaStrongView')


@pytest.mark.parametrize('method', ['mean_teacher', 'cps'])
@pytest.mark.parametrize('cell, crop, iters, weight', [
    ('voc-blender_1-8', 512, 39680, 1.5), ('cityscapes_1-4', 800, 44640, 6.0)])
def test_recipe_of_torchsemiseg(method, cell, crop, iters, weight):
    cfg = loaded(FOLDER.parent / method / f'{method}_r50_{cell}.py')
    assert cfg.train_cfg.max_iters == iters
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=2.5e-3, momentum=0.9, weight_decay=1e-4)
    assert cfg.optim_wrapper.paramwise_cfg == dict(
        norm_decay_mult=0, bias_decay_mult=0, custom_keys={})
    assert stride(cfg) == 16 and cfg.model.segmentor.backbone.multi_grid == (2, 4, 8)
    assert tuple(cfg.model.segmentor.test_cfg.crop_size) == (crop, crop)
    semi = cfg.model.semi_train_cfg
    assert (semi.cps_weight if method == 'cps' else semi.consistency_weight) == (
        weight if method == 'cps' else 100)


@pytest.mark.parametrize('leaf, images, crop, os, rate, head, epochs, expected', [
    ('augseg_r50_voc-classic_1-16', 16, 513, 16, 1e-3, 10, 80,
     dict(threshold=0.95, ema_momentum=0.999, copy_steps=10490 // 16)),
    ('augseg_r50_voc-blender_1-8', 16, 513, 16, 1e-3, 10, 80,
     dict(threshold=0.95, ema_momentum=0.999, copy_steps=9259 // 16)),
    ('augseg_r50_cityscapes_1-4', 16, 800, 16, 1e-2, 1, 240,
     dict(threshold=0.0, ema_momentum=0.996, copy_steps=2231 // 16)),
    ('corrmatch_r101_voc-classic_1-16', 16, 321, 8, 1e-3, 10, 80, dict(threshold=0.85)),
    ('corrmatch_r50_voc-blender_1-8', 16, 513, 8, 1e-3, 10, 80, dict(threshold=0.85)),
    ('corrmatch_r101_cityscapes_1-4', 8, 801, 8, 5e-3, 1, 240, dict(threshold=0.85)),
    ('unimatch_v2_r50_voc-classic_1-16', 8, 321, 16, 1e-3, 10, 80, dict(threshold=0.95)),
    ('unimatch_v2_r50_cityscapes_1-4', 8, 801, 16, 5e-3, 1, 240, dict(threshold=0.95)),
    ('unimatch_v2_dinov2-b14_voc-classic_full', 16, 518, None, 5e-6, 40, 60,
     dict(threshold=0.95, ema_momentum=0.996)),
    ('unimatch_v2_dinov2-b14-dpt_voc-classic_1-16', 16, 518, None, 5e-6, 40, 60,
     dict(threshold=0.95, ema_momentum=0.996)),
    ('unimatch_v2_dinov2-s14-dpt_cityscapes_1-4', 8, 798, None, 5e-6, 40, 180,
     dict(threshold=0.95, ema_momentum=0.996))])
def test_recipes_of_their_releases(leaf, images, crop, os, rate, head, epochs, expected):
    cfg = loaded(FOLDER.parent / leaf.partition('_r')[0].partition('_dino')[0] / f'{leaf}.py')
    sampler = cfg.train_dataloader.batch_sampler
    assert sampler.total_labeled == sampler.total_unlabeled == images
    assert cfg.train_dataloader.batch_size == 2 * images
    assert cfg.train_cfg.max_iters == epochs * cfg.num_unlabeled // images
    keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
    rates = {part: cfg.optim_wrapper.optimizer.lr * keys.get(part, {}).get('lr_mult', 1)
             for part in ('backbone', 'decode_head')}
    assert rates == pytest.approx(dict(backbone=rate, decode_head=head * rate))
    if 'corrmatch' in leaf:  # what has no rate of its own has the backbone's
        assert keys.get('correlation', {}).get('lr_mult', 1) == head
    assert tuple(cfg.model.segmentor.data_preprocessor['size']) == (crop, crop)
    assert os is None or stride(cfg) == os
    semi = cfg.model.semi_train_cfg
    assert {key: semi[key] for key in expected} == expected


def stride(cfg) -> int:
    return 4 * prod(cfg.model.segmentor.backbone.strides)


def test_camvid_has_one_recipe():
    """Methods differ there in the model alone, and the baseline in its batch."""
    own = {'model', 'method', 'method_hooks', 'method_optim', 'default_hooks'}
    found = {}
    for path in sorted(FOLDER.parent.glob('*/*_lite0_camvid_1-16.py')):
        cfg = loaded(path)._cfg_dict.to_dict()
        assert cfg['model']['segmentor'] == loaded(
            FOLDER.parent / '_base_/partitions/camvid_1-16.py').model
        if path.parent.name != 'supervised':
            semi = cfg['model']['semi_train_cfg']
            assert (semi['warmup_iters'], semi['ramp_iters']) == (300, 300)
            found[path.parent.name] = {k: v for k, v in cfg.items() if k not in own}
    assert set(found) == {p.parent.name for p in FOLDER.parent.glob('*/method.py')} - {'supervised'}
    for cfg in found.values():  # a part that a method adds may have a rate of its own
        cfg['optim_wrapper'].pop('networks', None)
        rates = cfg['optim_wrapper']['paramwise_cfg']['custom_keys']
        for part in set(rates) - {'decode_head', 'projector', 'backbone'}:
            del rates[part]
    assert [name for name, cfg in found.items() if cfg != found['esl']] == []
