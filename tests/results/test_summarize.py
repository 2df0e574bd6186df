"""Tables of runs against numbers computed here from the logs, hand-written and of real runs."""
import csv
import functools
import importlib
import io
import json
import math
import re
import statistics
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from tiny import EMA, PARTS, esl_cfg, quiet, runner_cfg, segmentor, write_data

from mmseg_esl.engine.describe import describe
from mmseg_esl.engine.hooks.protocol_hook import NO_CHECKOUT, commit_of
from mmseg_esl.report import make_page
from mmseg_esl.results import (
    classes_to_csv,
    group,
    make_table,
    read_figures,
    read_run,
    to_csv,
    to_markdown,
)
from mmseg_esl.results.compare import sees_unlabeled
from mmseg_esl.results.run import SCALARS
from mmseg_esl.splits.published import rows
from mmseg_esl.storage.config import hooks_in

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / 'docs/results/paper_results.csv'
COUNTS = {(row.protocol, row.partition): row.count for row in rows() if row.part == 'labeled'}


# ------------------------------------------------------------------------- hand-written folders


def config(seed=0, max_iters=100, variant='dsl+ctr', depth=50, center=513, resume=False, **semi):
    crop = [dict(type='EvaluatedCenterCrop', crop_size=(center, center))] if center else []
    return dict(
        model=dict(
            type='ESL', part_memory=dict(num_parts=5), semi_train_cfg=dict(variant=variant, **semi),
            segmentor=dict(
                type='EncoderDecoder', backbone=dict(type='ResNetV1c', depth=depth),
                decode_head=dict(type='DepthwiseSeparableASPPHead'), test_cfg=dict(mode='whole'))),
        train_dataloader=dict(num_workers=seed, dataset=dict(labeled=dict(
            ann_file=f'/lists/seed{seed}.txt', data_root=f'/data{seed}'))),
        val_dataloader=dict(dataset=dict(data_prefix=dict(img_path='val'), pipeline=crop)),
        train_cfg=dict(max_iters=max_iters), optim_wrapper=dict(optimizer=dict(lr=0.01)),
        custom_hooks=[dict(type='TeacherEMAHook', momentum=0.99)],
        randomness=dict(seed=seed), resume=resume, work_dir=f'somewhere/{seed}')


@functools.lru_cache(maxsize=None)
def _said(text):
    """What a small network's method says of itself under the keys that a config spells."""
    given = json.loads(text)
    init_default_scope('mmseg')
    with quiet():
        return describe(MODELS.build(dict(segmentor=segmentor(), **given)))


def method_of(cfg):
    given = {key: value for key, value in cfg['model'].items() if key != 'segmentor'}
    return _said(json.dumps(given, sort_keys=True))


def validation(step, teacher, student=None, **more):
    found = {'teacher/mIoU': teacher}
    if student is not None:
        found['student/mIoU'] = student
    return {**found, **more, 'time': 0.1, 'step': step}


def training(step):
    return dict(loss=1.0, lr=0.1, iter=step, step=step)


def per_class(step):
    """What DiagnosticsHook hands to the backends."""
    return {'anchors/sky': 3.0, 'parts_used/sky': 2.0, 'step': step}


def write_start(folder, rows, cfg, name='20260101_000000', protocol='voc-classic/1-16', count=None,
                sha='x', **info):
    start = Path(folder) / name
    (start / 'vis_data').mkdir(parents=True)
    lines = [json.dumps(row) for row in rows]
    (start / SCALARS).write_text(''.join(f'{line}\n' for line in lines))
    (start / 'vis_data/config.py').write_text(
        ''.join(f'{key} = {value!r}\n' for key, value in cfg.items()))
    if protocol:
        published = tuple(protocol.split('/')) in COUNTS
        (start / 'protocol.json').write_text(json.dumps(dict(
            protocol=protocol, published=published, labeled=dict(
                count=count or COUNTS[tuple(protocol.split('/'))], sha256=sha))))
    if 'segmentor' in cfg['model']:
        info.setdefault('method', method_of(cfg))
    (start / 'run.json').write_text(json.dumps(dict(
        {'commit': 'abc', 'seed': cfg['randomness']['seed'], 'world_size': 1}, **info)))
    return Path(folder)


TEACHER = {0: (50.111, 61.257, 60.0), 1: (52.0, 58.5, 59.349), 2: (51.0, 57.0, 62.774)}


def three_seeds(tmp_path, **options):
    return [write_start(
        tmp_path / f'run{seed}',
        [row for step, value in zip((40, 80, 100), values)
         for row in (per_class(step - 10), training(step), per_class(step),
                     validation(step, value, value - step / 10))],
        config(seed, **options)) for seed, values in TEACHER.items()]


def of(folders, metric='mIoU', figures=None):
    return make_table([read_run(folder) for folder in folders], metric, figures)


def parse_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def parse_markdown(text, first):
    """The rows of the first Markdown table whose first heading is ``first``."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f'| {first} |'))
    grid = []
    for line in lines[start:]:
        if not line.startswith('|'):
            break
        grid.append([cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]])
    return [dict(zip(grid[0], row)) for row in grid[2:]]


def test_mean_and_deviation_over_seeds(tmp_path):
    """Last, and best by the teacher, whose student is not the student's best."""
    table = of(three_seeds(tmp_path))
    cell, = parse_csv(to_csv(table))
    best = {0: (61.257, 80), 1: (59.349, 100), 2: (62.774, 100)}
    wanted = {
        'teacher_last': [values[-1] for values in TEACHER.values()],
        'student_last': [values[-1] - 10 for values in TEACHER.values()],
        'teacher_best': [value for value, _ in best.values()],
        'student_best': [value - step / 10 for value, step in best.values()]}
    for key, values in wanted.items():
        assert cell[f'{key}_mean'] == f'{statistics.fmean(values):.2f}'
        assert cell[f'{key}_sd'] == f'{statistics.stdev(values):.2f}'
    assert (cell['n'], cell['seeds'], cell['best_iterations']) == ('3', '0 1 2', '80 100 100')
    assert (cell['training'], cell['backbone'], cell['iterations']) == ('ESL', 'R50', '100')
    assert cell['commits'] == 'abc'


def test_markdown_parses_back_to_the_csv(tmp_path):
    single = write_start(tmp_path / 'sup', [validation(100, 40.005, 39.0)],
                         config(variant='sup'), protocol='voc-classic/1-8')
    table = of([single, *three_seeds(tmp_path)], figures=read_figures(FIGURES))
    cells, shown = parse_csv(to_csv(table)), parse_markdown(to_markdown(table), 'training')
    assert len(cells) == len(shown) == 2
    for cell, row in zip(cells, shown):
        for which in ('last', 'best'):
            for name in ('teacher', 'student'):
                mean, _, sd = row[f'{name}, {which}'].partition(' ± ')
                assert (mean, sd) == (cell[f'{name}_{which}_mean'], cell[f'{name}_{which}_sd'])
        assert (row['n'], row['paper'], row['labelled']) == (
            cell['n'], cell['paper'], f'{cell["labeled"]} ({cell["partition"]})')
    assert [cell['labeled'] for cell in cells] == ['92', '183']  # few first
    # a single seed has no deviation
    assert cells[1]['teacher_last_sd'] == '' and '±' not in shown[1]['teacher, last']
    # the paper's figures are those of the CSV, found by another way
    lines = FIGURES.read_text().splitlines()
    assert f'supplement table 1a,voc_classic,R50,ESL,92,{cells[0]["paper"]}' in lines
    assert f'supplement table 1a,voc_classic,R50,Sup baseline,183,{cells[1]["paper"]}' in lines


def test_unfinished_runs_are_listed_and_not_averaged(tmp_path):
    folders = three_seeds(tmp_path)
    folders += [write_start(tmp_path / 'stopped', [validation(80, 99.0), training(90)], config(3)),
                write_start(tmp_path / 'young', [training(20)], config(4))]
    table = of(folders)
    cell, = parse_csv(to_csv(table))
    assert cell['n'] == '3' and float(cell['teacher_last_mean']) < 63
    found = {Path(row['run']).name: row['note']
             for row in parse_markdown(to_markdown(table), 'run')}
    assert len(found) == 5
    assert found['stopped'] == ('unfinished: last validation at 80, last logged iteration 90, '
                                'of 100')
    assert found['young'].startswith('unfinished: no validation') and found['run0'] == ''
    # nothing finished: a list of runs and no table
    table = of(folders[3:])
    assert to_csv(table) == '' and 'training' not in to_markdown(table)


def test_resumed_runs_count_once(tmp_path):
    """What was logged beyond the checkpoint is replaced; a start without resume begins anew."""
    folder = tmp_path / 'run'
    write_start(folder, [validation(40, 50.0), validation(80, 90.0), training(90)],
                config(max_iters=90), 'a', commit='one')
    write_start(folder, [training(60), validation(80, 55.0), validation(100, 54.0)],
                config(resume=True), 'b', commit='two', seed=7)
    run = read_run(folder)
    assert {step: row['teacher/mIoU'] for step, row in run.validations.items()} == {
        40: 50.0, 80: 55.0, 100: 54.0}
    assert (run.seed, run.commit, run.max_iters, run.finished) == (0, 'one then two', 100, True)
    assert run.notes == ['resumed, 2 starts']
    assert parse_csv(to_csv(of([folder])))[0]['n'] == '1'
    # a validation of the abandoned end that was not repeated is gone, too
    write_start(folder, [training(60), training(70)], config(resume=True), 'c')
    assert list(read_run(folder).validations) == [40] and not read_run(folder).finished
    write_start(folder, [validation(50, 10.0)], config(seed=3), 'd', commit='three')
    run = read_run(folder)
    assert (list(run.validations), run.seed, run.commit) == ([50], 3, 'three')
    assert run.notes == ['begun anew in d; earlier starts are not counted']


def test_other_configs_are_not_averaged(tmp_path):
    """Rows that differ say in what; seeds, paths and workers do not make a row."""
    folders = three_seeds(tmp_path)
    changed = config(5)
    changed['optim_wrapper']['optimizer']['lr'] = 0.02
    folders.append(write_start(tmp_path / 'other', [validation(100, 70.0)], changed))
    by_title = {row.title: len(row.runs) for row in of(folders).rows}
    assert by_title == {'ESL (optimizer.lr=0.01)': 3, 'ESL (optimizer.lr=0.02)': 1}
    changed = config(6)
    changed['val_dataloader']['dataset']['data_prefix']['img_path'] = 'test'
    folders[-1] = write_start(tmp_path / 'images', [validation(100, 70.0)], changed)
    assert 'ESL (data_prefix.img_path=test)' in [row.title for row in of(folders).rows]
    folders[-1] = write_start(tmp_path / 'ranks', [validation(100, 70.0)], config(7), world_size=2)
    assert [row.title for row in of(folders).rows] == ['ESL (processes=1)', 'ESL (processes=2)']
    folders[-1] = write_start(tmp_path / 'begin', [validation(100, 70.0)],
                              dict(config(8), load_from='mine.pth'))
    assert 'ESL (load_from=mine.pth)' in [row.title for row in of(folders).rows]


def test_processes_do_not_count_where_the_batch_is_that_of_all(tmp_path):
    folders = []
    for seed, ranks in ((0, 1), (1, 4)):
        cfg = config(seed)
        cfg['train_dataloader']['batch_sampler'] = dict(total_labeled=8, total_unlabeled=8)
        folders.append(write_start(tmp_path / f'{seed}', [validation(100, 50.0)], cfg,
                                   world_size=ranks))
    row, = of(folders).rows
    assert len(row.runs) == 2


def test_of_equal_validations_the_first_is_best(tmp_path):
    folder = write_start(tmp_path / 'run', [
        validation(20, 30.0), validation(60, 40.0), validation(100, 40.0)], config())
    assert read_run(folder).best('mIoU') == 60


def test_a_validation_that_is_not_a_number_is_not_best(tmp_path):
    folder = write_start(tmp_path / 'run', [
        validation(20, math.nan), validation(60, 40.0), validation(100, 30.0)], config())
    assert read_run(folder).best('mIoU') == 60


def test_seeds_that_occur_twice_are_refused(tmp_path):
    folders = three_seeds(tmp_path)
    folders.append(write_start(tmp_path / 'again', [validation(100, 1.0)], config(1)))
    with pytest.raises(ValueError, match=r'run1 and .*again: these runs have the same seed, 1'):
        of(folders)
    nameless = [write_start(tmp_path / name, [validation(100, 1.0)], config(None))
                for name in ('p', 'q')]
    with pytest.raises(ValueError, match='p and .*q: neither run.json nor the config'):
        of(nameless)


def test_mixed_protocols_are_refused(tmp_path):
    folders = three_seeds(tmp_path)
    for name in ('voc-blender-u2pl/1-16', 'voc-blender-unimatch/1-16'):
        folders.append(write_start(tmp_path / name, [validation(100, 60.0)], config(9),
                                   protocol=name))
    with pytest.raises(ValueError) as error:
        of(folders)
    for part in ("'voc-classic/1-16' and 'voc-blender-u2pl/1-16'", '--group', str(folders[3])):
        assert part in str(error.value)
    groups = group([read_run(folder) for folder in folders])
    assert {name: len(found) for name, found in groups.items()} == {
        'voc-classic': 3, 'voc-blender-u2pl': 1, 'voc-blender-unimatch': 1}
    lost = write_start(tmp_path / 'lost', [validation(100, 60.0)], config(9), protocol='')
    with pytest.raises(ValueError, match=r'lists not recorded: /lists/seed9.txt.*ProtocolHook'):
        of([*folders[:3], lost])
    assert 'lists not recorded' in to_markdown(of([lost]))
    starts = write_start(tmp_path / 'run0', [training(100)], config(resume=True), 'z',
                         protocol='voc-classic/1-8')
    with pytest.raises(ValueError, match='run0.*voc-classic/1-16.*voc-classic/1-8'):
        read_run(starts)


def test_own_lists(tmp_path):
    """Partitions of one collection with as many labels are averaged, and that is said."""
    folders = [write_start(tmp_path / f'{seed}', [validation(100, 50.0 + seed)], config(seed),
                           protocol=f'own-aaa/{seed}', count=20 + 3 * (seed > 1), sha=f'{seed}')
               for seed in range(3)]
    table = of(folders, figures=read_figures(FIGURES))
    assert [(row.labeled, len(row.runs), row.paper) for row in table.rows] == [
        (20, 2, None), (23, 1, None)]
    assert 'different labelled lists' in to_markdown(table)
    assert 'different labelled lists' not in to_markdown(of(folders[1:]))
    # one seed on two lists: two results
    folders = [write_start(tmp_path / sha, [validation(100, 50.0)], config(), sha=sha, count=20,
                           protocol=f'own-aaa/{sha}') for sha in ('l', 'm')]
    assert [len(row.runs) for row in of(folders).rows] == [2]


# ----------------------------------------------------------------------------- the paper's figures


def paper_of(tmp_path, cfg, protocol='voc-classic/full'):
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    write_start(folder, [validation(100, 50.0)], cfg, protocol=protocol)
    return of([folder], figures=read_figures(FIGURES)).rows[0].paper


def test_figures_of_the_ablations(tmp_path):
    """Every row of the ablations is reached by its cfg-options."""
    options = {'CE + hard label': dict(variant='hard'), 'CE + DSL': dict(variant='dsl'),
               'CE + hard label + CTR': dict(variant='hard+ctr'), 'ESL': {},
               'CE + top-5': dict(variant='topk'), 'CE': dict(variant='sup'),
               'ESL (CE + DSL + CTR)': {}}
    for name, key, values in (
            ('CE + DSL eta', 'mass', ('0.80', '0.90', '0.95', '0.99')),
            ('ESL lambda1', 'sce_weight', ('0.01', '0.05', '0.1', '0.2', '0.5')),
            ('ESL lambda2', 'ctr_weight', ('0.01', '0.05', '0.1', '0.2', '0.5'))):
        for value in values:
            label = dict(variant='dsl') if key == 'mass' else {}
            options[f'{name}={value}'] = {key: float(value), **label}
    with open(FIGURES, newline='') as file:
        wanted = {row['method']: row['miou'] for row in csv.DictReader(file)
                  if row['source'] in ('paper tables 2-4', 'supplement table 3')}
    for name, option in options.items():
        assert paper_of(tmp_path, config(depth=101, **option)).miou == wanted.pop(
            name, '81.77'), name
    assert set(wanted) == {f'ESL K={parts}' for parts in (0, 1, 3, 5, 7, 10)}
    for parts in (1, 3, 5, 7, 10):
        cfg = config(depth=101)
        cfg['model']['part_memory']['num_parts'] = parts
        assert paper_of(tmp_path, cfg).miou == wanted[f'ESL K={parts}']


def test_pseudo_labels_are_in_the_title_and_have_no_baselines_figure(tmp_path):
    runs = [write_start(tmp_path / name, [validation(100, 50.0)], config()) for name in 'ab']
    path = next((tmp_path / 'b').glob('*/protocol.json'))
    said = dict(json.loads(path.read_text()), pseudo_labels=['pseudo labels of 9 images by x.pth'])
    path.write_text(json.dumps(dict(said, protocol=said['protocol'] + '+pseudo')))
    plain, pseudo = of(runs, figures=read_figures(FIGURES)).rows
    assert pseudo.title == f'{plain.title} with pseudo labels'
    assert pseudo.partition == f'{plain.partition}+pseudo'
    assert plain.paper and pseudo.paper is None


@pytest.mark.parametrize('name, miou', [('ST++', '72.60'), ('ST++, snapshots=5', None),
                                        ('ST', None)])
def test_the_last_training_of_a_series_has_its_name_and_figure(tmp_path, name, miou):
    """A run of supervised training by the method, of self-training by what the stages are."""
    cfg = config()
    cfg['model'].pop('part_memory')
    cfg['model'].update(type='Supervised', semi_train_cfg={})
    folder = write_start(tmp_path / 'run', [dict(validation(100, 50.0), **{'student/mIoU': 50.0})],
                         dict(cfg, self_training=name), protocol='voc-blender-stpp/1-16-split1')
    path = next(folder.glob('*/protocol.json'))
    said = dict(json.loads(path.read_text()), pseudo_labels=['pseudo labels of 9 images by x.pth'])
    path.write_text(json.dumps(dict(said, protocol=said['protocol'] + '+pseudo')))
    row, = of([folder], figures=read_figures(FIGURES)).rows
    assert row.title == name and row.partition.endswith('+pseudo')
    assert (row.paper and row.paper.miou) == miou
    assert sees_unlabeled(read_run(folder))  # and no baseline of a comparison


def test_no_figure_where_something_differs(tmp_path):
    assert paper_of(tmp_path, config()).miou == '77.11'
    assert paper_of(tmp_path, config(center=None)) is None  # whole images
    assert paper_of(tmp_path, config(center=321)) is None
    assert paper_of(tmp_path, config(depth=18)) is None
    assert paper_of(tmp_path, config(mass=0.5)) is None
    assert paper_of(tmp_path, config(topk=3, variant='topk', depth=101)) is None
    assert paper_of(tmp_path, config(), 'voc-classic-stpp/1-16-split1') is None
    assert paper_of(tmp_path, config(), 'cityscapes-unimatch/1-8') is None  # no sliding window
    cfg = config()
    cfg['model']['segmentor']['decode_head']['type'] = 'FCNHead'
    assert paper_of(tmp_path, cfg) is None
    folder = write_start(tmp_path / 'acc', [validation(100, 50.0, **{'teacher/aAcc': 9.0})],
                         config())
    assert of([folder], 'aAcc', read_figures(FIGURES)).rows[0].paper is None


def test_footnotes_where_the_lists_of_the_paper_are_not_known(tmp_path):
    blender = paper_of(tmp_path, config(), 'voc-blender-u2pl/1-4')
    assert blender.miou == '76.80' and 'The paper does not say which lists' in blender.remark
    cfg = config(center=None)
    cfg['model']['segmentor']['test_cfg'] = dict(mode='slide', crop_size=(769, 769),
                                                 stride=(513, 513))
    city = paper_of(tmp_path, cfg, 'cityscapes-u2pl/1-4')
    assert city.miou == '77.58' and 'cityscapes-unimatch' in city.remark
    cfg = config(center=None)
    cfg['model']['segmentor']['backbone'] = dict(type='mmseg.TIMMBackbone', model_name='xception65')
    coco = paper_of(tmp_path, cfg, 'coco-unimatch/1-32')
    assert (coco.miou, coco.remark) == ('49.25', '')
    assert paper_of(tmp_path, config()).remark == ''
    folder = write_start(tmp_path / 'blender', [validation(100, 5.0)], config(),
                         protocol='voc-blender-u2pl/1-4')
    text = to_markdown(of([folder], figures=read_figures(FIGURES)))
    assert '| ESL [1] |' in text
    assert '[1] The paper: supplement table 1b. The paper does not say which lists it used' in text
    # every cell of ESL and of the baseline has published lists of its count
    with open(FIGURES, newline='') as file:
        cells = {(row['dataset'].replace('_', '-'), int(row['labelled']))
                 for row in csv.DictReader(file) if row['method'] in ('ESL', 'Sup baseline')}
    for dataset, count in cells:
        assert any(name.startswith(dataset) and count == number
                   for (name, _), number in COUNTS.items()), (dataset, count)


# ------------------------------------------------------------------------ methods and networks


def test_a_run_without_method_is_called_by_its_config(tmp_path):
    """As of release 0.1.0; no figure of the paper stands beside it."""
    folder = write_start(tmp_path / 'old', [validation(100, 50.0, 49.0)], config(variant='sup'),
                         method=None)
    table = of([folder], figures=read_figures(FIGURES))
    row, = table.rows
    assert (row.title, row.paper, table.networks) == ('ESL (sup)', None, ['teacher', 'student'])
    bare = config()
    del bare['model']['semi_train_cfg']
    folder = write_start(tmp_path / 'bare', [validation(100, 50.0)], bare, method=None)
    assert of([folder]).rows[0].title == 'ESL'
    # momenta of the average, which the hook had then, are told apart
    folders = []
    for seed, momentum in enumerate((0.99, 0.5)):
        cfg = config(seed)
        cfg['custom_hooks'][0]['momentum'] = momentum
        folders.append(write_start(tmp_path / f'{momentum}', [validation(100, 50.0)], cfg,
                                   method=None))
    assert [row.title for row in of(folders).rows] == [
        'ESL (dsl+ctr) (TeacherEMAHook.momentum=0.99)',
        'ESL (dsl+ctr) (TeacherEMAHook.momentum=0.5)']


def test_to_spell_a_default_makes_no_other_run(tmp_path):
    folders = [write_start(tmp_path / f'{seed}', [validation(100, 50.0)], config(seed, **spelled))
               for seed, spelled in enumerate(({}, dict(mass=0.95), dict(ema_momentum=0.99)))]
    folders.append(write_start(tmp_path / 'other', [validation(100, 50.0)],
                               config(0, ema_momentum=0.9)))
    assert {row.title: len(row.runs) for row in of(folders).rows} == {
        'ESL (semi_train_cfg.ema_momentum=0.99)': 3, 'ESL (semi_train_cfg.ema_momentum=0.9)': 1}


def cps_config(seed=0, **semi):
    cfg = config(seed)
    cfg['model'].pop('part_memory')
    cfg['model'].update(type='CPS', semi_train_cfg=semi)
    return cfg


def test_a_table_names_both_students(tmp_path):
    """The one that predicts decides and stands first, whichever was logged first."""
    folders = []
    for seed in (0, 1):
        cfg = cps_config(seed)
        cfg['model']['semi_test_cfg'] = dict(predict_on='student2')
        rows = [{'student/mIoU': 60.0 - step / 10, 'student2/mIoU': 30.0 + step / 10 + seed,
                 'student2/IoU.sky': 7.0, 'step': step} for step in (50, 100)]
        folders.append(write_start(tmp_path / f'{seed}', [training(50), rows[0], rows[1]], cfg))
    table = of(folders, figures=read_figures(FIGURES))
    assert table.networks == ['student2', 'student']
    cell, = parse_csv(to_csv(table))
    assert (cell['training'], cell['best_iterations']) == ('CPS', '100 100')
    assert (cell['student2_best_mean'], cell['student_best_mean']) == ('40.50', '50.00')
    assert 'the validation at which the student2 is best' in to_markdown(table)
    assert parse_markdown(to_markdown(table), 'training')[0]['student, last'] == '50.00 ± 0.00'
    assert {c['network'] for c in parse_csv(classes_to_csv(table))} >= {'student2'}
    assert cell['paper'] == ''  # the paper has it with ResNet-101 alone
    cfg = cps_config()
    cfg['model']['segmentor']['backbone']['depth'] = 101
    found = paper_of(tmp_path, cfg, 'voc-classic/1-16')
    assert f'paper table 1a,voc_classic,R101,CPS,92,{found.miou}' in FIGURES.read_text()
    cfg['model']['semi_train_cfg']['cps_weight'] = 0.1
    assert paper_of(tmp_path, cfg, 'voc-classic/1-16') is None


def test_a_validation_without_times_is_one(tmp_path):
    """Of networks that nobody knows, too; the classes of a diagnostic are none."""
    folder = write_start(tmp_path / 'run', [
        training(100), {'first/mIoU': 50.0, 'first/aAcc': 60.0, 'step': 100}, per_class(100)],
        config(), method=None)
    run = read_run(folder)
    assert run.networks('mIoU') == ['first'] and set(run.validations[100]) == {
        'first/mIoU', 'first/aAcc', 'step'}


# ------------------------------------------------------------------------------ classes, damage


def test_classes(tmp_path):
    """nan stays nan; a class that one run lacks has no mean."""
    found = [{'teacher/IoU.a|b': 10.0, 'teacher/IoU.c': 1.0, 'teacher/IoU.d': math.nan},
             {'teacher/IoU.a|b': 20.005, 'teacher/IoU.c': 2.0, 'teacher/IoU.d': 5.0}]
    folders = [write_start(tmp_path / f'{i}', [validation(50, 90.0, **{'teacher/IoU.c': 99.0}),
                                               validation(100, 50.0, 49.0, **classes)], config(i))
               for i, classes in enumerate(found)]
    for folder in folders:  # the student of the first validation was not logged
        rows = (folder / '20260101_000000' / SCALARS)
        rows.write_text(rows.read_text().replace('"time"', '"student/mIoU": 1.0, "time"', 1))
    table = of(folders)
    shown = parse_markdown(to_markdown(table, per_class=True), 'class')
    assert [list(row.values()) for row in shown] == [
        [r'a\|b', f'{statistics.fmean([10.0, 20.005]):.2f}'], ['c', '1.50'], ['d', 'nan']]
    assert list(shown[0]) == ['class', 'ESL, 92 (1-16), n = 2']
    cells = parse_csv(classes_to_csv(table))
    assert [(cell['class'], cell['iou_last_mean']) for cell in cells] == [
        ('a|b', '15.00'), ('c', '1.50'), ('d', 'nan')]
    without = write_start(tmp_path / 'without', [validation(100, 50.0)], config(5))
    assert 'PerClassIoUMetric' in to_markdown(of([without]), per_class=True)


def test_a_broken_last_line_is_said(tmp_path):
    folder, = three_seeds(tmp_path)[:1]
    path = folder / '20260101_000000' / SCALARS
    lines = path.read_text().splitlines()
    path.write_text('\n'.join(lines[:-1]) + '\n' + lines[-1][:30])
    run = read_run(folder)
    assert (run.last, run.finished) == (80, False)
    assert run.notes == [f'the last line of 20260101_000000/{SCALARS} is broken off']
    assert 'broken off' in to_markdown(of([folder]))
    path.write_text('\n'.join([lines[0], lines[1][:30], *lines[2:]]))
    with pytest.raises(ValueError, match=r'run0.*scalars\.json, line 2 is not JSON'):
        read_run(folder)


def test_errors_name_folder_and_remedy(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=r'empty: no .*scalars\.json.*LocalVisBackend'):
        read_run(tmp_path / 'empty')
    blind = write_start(tmp_path / 'blind', [training(100)], config())
    with pytest.raises(ValueError, match=r'blind: trained to the end without a validation.*val_cf'):
        read_run(blind)
    epochs = write_start(tmp_path / 'epochs', [validation(0, 5.0)], config())
    with pytest.raises(ValueError, match='epochs: .*log_metric_by_epoch=False'):
        read_run(epochs)
    endless = write_start(tmp_path / 'endless', [validation(5, 5.0)], config(max_iters=None))
    with pytest.raises(ValueError, match=r'endless: .*train_cfg\.max_iters'):
        read_run(endless)
    fine = write_start(tmp_path / 'fine', [validation(100, 50.0)], config())
    with pytest.raises(ValueError, match=r"fine: no validation has the metric 'IoU'.* mIoU"):
        of([fine], 'IoU')
    kept = fine / '20260101_000000/vis_data/config.py'
    kept.rename(fine / 'mine.py')
    assert read_run(fine).finished  # the copy that mmengine puts into the work folder
    (fine / 'other.py').write_text('x = 1')
    with pytest.raises(ValueError, match=r'fine: no .*config\.py.* and 2 configs'):
        read_run(fine)
    kept.write_text('x = (')
    with pytest.raises(ValueError, match=r'config\.py: not a config'):
        read_run(fine)
    with pytest.raises(ValueError, match='no such file.*--paper'):
        read_figures(tmp_path / 'none.csv')
    (tmp_path / 'bad.csv').write_text('a,b\n')
    with pytest.raises(ValueError, match=r'bad\.csv: the columns must be source,.* are a,b'):
        read_figures(tmp_path / 'bad.csv')


def test_a_plain_run_has_one_network(tmp_path):
    cfg = config()
    cfg['model'] = cfg['model']['segmentor']
    folder = write_start(tmp_path / 'plain', [{'mIoU': 41.0, 'IoU.a': 3.0, 'step': 100}], cfg)
    table = of([folder])
    cell, = parse_csv(to_csv(table))
    assert cell['network_last_mean'] == '41.00'
    assert cell['training'] == 'supervised (EncoderDecoder)'
    assert table.rows[0].classes == {'': {'a': 3.0}}


def evaluated_by(cfg, *prefixes):
    return dict(cfg, val_evaluator=[dict(type='IoUMetric', prefix=prefix) for prefix in prefixes])


@pytest.mark.parametrize('head, prefix', [('teacher/', 'val'), ('teacher/', 'teacher'),
                                          ('teacher/', 'a/b'), ('', 'val')])
def test_prefixed_metrics_are_those_metrics(tmp_path, head, prefix):
    rows = [{f'{head}{prefix}/{key}': value for key, value in (
        ('mIoU', 40 + step), ('IoU.sky', step))} for step in (50, 100)]
    cfg = config() if head else dict(config(), model=config()['model']['segmentor'])
    folder = write_start(tmp_path / 'a', [
        training(100), *(dict(row, time=0.1, step=50 * n) for n, row in enumerate(rows, 1))],
        evaluated_by(cfg, prefix))
    run = read_run(folder)
    assert run.networks('mIoU') == [head.strip('/')]
    assert run.classes(head.strip('/')) == {'sky': 100}
    assert make_table([run]).rows[0].values[head.strip('/'), 'last'] == [140]
    assert 'mIoU, per cent' in make_page(folder)


def test_a_metric_of_two_evaluators_keeps_their_prefixes(tmp_path):
    rows = [{'teacher/near/mIoU': 1.0, 'teacher/far/mIoU': 2.0, 'teacher/far/aAcc': 3.0,
             'time': 0.1, 'step': 100}]
    folder = write_start(tmp_path / 'a', [training(100), *rows],
                         evaluated_by(config(), 'near', 'far'))
    assert of([folder], 'far/mIoU').rows[0].values['teacher', 'last'] == [2.0]
    assert of([folder], 'aAcc').rows[0].values['teacher', 'last'] == [3.0]
    with pytest.raises(ValueError, match="no validation has the metric 'mIoU'; there are aAcc, "
                                         'far/mIoU, near/mIoU'):
        of([folder])


# ---------------------------------------------------------------------------------- real runs


def train(root, name, seed=0, variant='dsl+ctr', max_iters=4, model=None, **changes):
    """On the tiny data set, validated every second iteration."""
    cfg = runner_cfg(
        root / name, root, [EMA, PARTS, dict(type='ProtocolHook')], max_iters,
        model or esl_cfg(variant),
        val=True, save_every=2, randomness=dict(seed=seed),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=2),
        visualizer=dict(type='Visualizer', name=uuid.uuid4().hex,
                        vis_backends=[dict(type='LocalVisBackend')]), **changes)
    with quiet():
        Runner.from_cfg(Config(cfg)).train()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Two seeds of ESL, one of 'sup'."""
    root = tmp_path_factory.mktemp('real')
    write_data(root)
    train(root, 'esl0')
    train(root, 'esl1', seed=1)
    train(root, 'sup', variant='sup')
    return root


def logged(folder, key):
    path, = folder.glob(f'*/{SCALARS}')
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row['step'], row[key]) for row in found if key in row]


def test_real_runs(trained):
    command = [sys.executable, str(ROOT / 'tools/summarize.py'), '--per-class', '--out',
               str(trained / 'out/table'), *(str(trained / name) for name in ('esl0', 'esl1',
                                                                              'sup'))]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    text = (trained / 'out/table.md').read_text()
    assert text.strip() == result.stdout.strip()
    esl, sup = parse_csv((trained / 'out/table.csv').read_text())
    assert (esl['training'], esl['n'], esl['seeds'], esl['labeled']) == ('ESL', '2', '0 1', '3')
    assert (sup['training'], sup['n'], sup['paper']) == ('supervised', '1', '')
    for name in ('teacher', 'student'):
        values = [dict(logged(trained / run, f'{name}/mIoU'))[4] for run in ('esl0', 'esl1')]
        assert esl[f'{name}_last_mean'] == f'{statistics.fmean(values):.2f}'
        assert esl[f'{name}_last_sd'] == f'{statistics.stdev(values):.2f}'
    best = [max(value for _, value in logged(trained / run, 'teacher/mIoU'))
            for run in ('esl0', 'esl1')]
    assert esl['teacher_best_mean'] == f'{statistics.fmean(best):.2f}'
    classes = parse_csv((trained / 'out/table_classes.csv').read_text())
    assert {cell['class'] for cell in classes} == {'ground', 'thing', 'sky'}
    sky = [dict(logged(trained / run, 'student/IoU.sky'))[4] for run in ('esl0', 'esl1')]
    assert [cell['iou_last_mean'] for cell in classes if (
        cell['training'], cell['network'], cell['class']) == ('ESL', 'student', 'sky')] == [
            f'{statistics.fmean(sky):.2f}']


def test_runs_record_commit_seed_and_command(trained):
    path, = trained.glob('esl1/*/run.json')
    info = json.loads(path.read_text())
    assert (info['seed'], info['world_size']) == (1, 1) and sys.argv[0] in info['command']
    run = read_run(trained / 'esl1')
    assert (run.seed, run.commit) == (1, info['commit'])


def test_a_real_run_that_is_resumed(trained):
    """Trained to 2, then on to 4, is one run with all its validations."""
    for length in (2, 4):
        train(trained, 'two_starts', max_iters=length, resume=length == 4)
    run = read_run(trained / 'two_starts')
    assert (list(run.validations), run.finished) == ([2, 4], True)
    assert [(row.title, [r.seed for r in row.runs])
            for row in of([trained / 'two_starts', trained / 'esl1']).rows] == [('ESL', [0, 1])]


def test_a_real_run_with_a_prefix(trained):
    train(trained, 'prefixed', max_iters=2, val_evaluator=dict(
        type='PerClassIoUMetric', iou_metrics=['mIoU'], prefix='val'))
    run = read_run(trained / 'prefixed')
    assert run.validations[2]['teacher/mIoU'] == dict(
        logged(trained / 'prefixed', 'teacher/val/mIoU'))[2]
    assert set(run.classes('student')) == {'ground', 'thing', 'sky'}


def test_a_real_run_of_two_students(trained):
    train(trained, 'cps', model=dict(type='CPS', segmentor=segmentor()))
    text = to_markdown(of([trained / 'cps']))
    row, = parse_markdown(text, 'training')
    assert row['training'] == 'CPS'
    for name in ('student', 'student2'):
        assert row[f'{name}, last'] == f"{dict(logged(trained / 'cps', f'{name}/mIoU'))[4]:.2f}"


def test_commit_is_that_of_the_checkout(tmp_path):
    def git(*args):
        return subprocess.run(['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c',
                               'user.email=a', *args], check=True, capture_output=True,
                              text=True).stdout.strip()

    package, installed = tmp_path / 'package', tmp_path / 'venv/package'
    for folder in (package, installed):
        folder.mkdir(parents=True)
        (folder / '__init__.py').write_text('')
    assert commit_of(package) == NO_CHECKOUT
    git('init', '-q')
    git('add', 'package')
    git('commit', '-q', '-m', 'x')
    git('tag', 'v1')
    assert commit_of(package) == git('rev-parse', 'HEAD')[:12]
    assert commit_of(installed) == NO_CHECKOUT  # inside of a checkout, but not of its
    (package / '__init__.py').write_text('changed = 1')
    assert commit_of(package) == git('rev-parse', 'HEAD')[:12] + '-dirty'


@pytest.fixture
def tool(monkeypatch, capsys):
    """Call a tool's main with arguments; returns what it printed."""
    monkeypatch.syspath_prepend(str(ROOT / 'dev'))
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))

    def call(name, *args):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return call


def test_command_line_refuses_and_groups(tmp_path, tool):
    folders = [write_start(tmp_path / name.split('/')[0], [validation(100, 60.0)], config(),
                           protocol=name) for name in ('voc-classic/1-16', 'voc-blender-u2pl/1-16')]
    args = [*folders, '--out', tmp_path / 'out']
    with pytest.raises(SystemExit, match='summarize: one table cannot hold'):
        tool('summarize', *args)
    assert not list(tmp_path.glob('out*'))
    assert tool('summarize', *args, '--group').count('###') == 2
    assert sorted(path.name for path in tmp_path.glob('out*')) == [
        'out_voc-blender-u2pl.csv', 'out_voc-blender-u2pl.md', 'out_voc-classic.csv',
        'out_voc-classic.md']
    figures = tmp_path / 'mine.csv'
    figures.write_text('source,dataset,backbone,method,labelled,miou\n'
                       'x,voc_classic,R50,ESL,92,1.5\n')
    assert '| 1.5 |' in tool('summarize', folders[0], '--paper', figures)


@pytest.mark.parametrize('hooks, key', [
    ("custom_hooks = [dict(type='StepHook'), dict(type='PartInitHook')]", 'custom_hooks.1'),
    ("default_hooks = dict(step=None, parts=dict(type='mmseg.PartInitHook'))",
     'default_hooks.parts')])
def test_study_finds_the_hook_of_the_parts(tmp_path, hooks, key):
    """By type, in the list or by name; and the option reaches it."""
    camvid_study = importlib.import_module('camvid_study')
    path = tmp_path / 'config.py'
    path.write_text(hooks)
    option = camvid_study.option(str(path), 'adaptive')
    assert option == f'{key}.adaptive=silhouette'
    cfg = Config.fromfile(str(path))
    cfg.merge_from_dict({f'{key}.adaptive': 'silhouette'})
    assert [hook['adaptive'] for hook in hooks_in(cfg) if 'adaptive' in hook] == ['silhouette']
    assert camvid_study.option(str(path), 'dsl') == 'model.semi_train_cfg.variant=dsl'
    path.write_text('custom_hooks = []')
    with pytest.raises(ValueError, match='no PartInitHook'):
        camvid_study.option(str(path), 'adaptive')


def test_study_prints_these_tables(trained, tmp_path, tool):
    """dev/camvid_study.py --tables, on folders with its names."""
    for name, old in (('1_16_seed0_dsl+ctr', 'esl0'), ('1_16_seed1_dsl+ctr', 'esl1'),
                      ('1_16_seed0_sup', 'sup')):
        (tmp_path / name).symlink_to(trained / old)
    (tmp_path / '1_8_seed0_sup').mkdir()  # somebody has just begun it
    text = tool('camvid_study', '--tables', '--work-dir', tmp_path)
    shown = {row['training']: row for row in parse_markdown(text, 'training')}
    values = [dict(logged(trained / run, 'teacher/mIoU'))[4] for run in ('esl0', 'esl1')]
    assert shown['ESL']['teacher, last'] == (
        f'{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}')
    assert set(shown) == {'ESL', 'supervised'} and '| sky |' in text
