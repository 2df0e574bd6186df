"""Which of a ladder's folders count as which run: by hand-written logs, without training."""
import json
import os
import shutil
import sys

import ladder
import pytest
import tiny
import torch
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS

from mmseg_esl.ladder import Row, Rung, finish, rungs, table

DATA = f"""
default_scope = 'mmseg'
model = {tiny.segmentor()!r}
train_dataloader = {tiny.loader_cfg('data')!r}
val_dataloader = {tiny.val_loader_cfg('data')!r}
test_dataloader = val_dataloader
val_cfg = dict(type='SemiValLoop')
val_evaluator = dict(type='PerClassIoUMetric')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05))
train_cfg = dict(type='SemiTrainLoop', max_iters=4, val_interval=2)
"""


@pytest.fixture
def rung(tmp_path):
    """Makes rungs of a row of mean_teacher, after writing its config."""
    def make(*options, given=(), data=DATA, seed=0):
        (tmp_path / "a user's data.py").write_text(data)
        row = Row('mine', 'mean_teacher', options)
        (tmp_path / 'mine.py').write_text(row.leaf(tmp_path / "a user's data.py"))
        return Rung(row, seed, tmp_path, tuple(given))
    return make


def trained(rung, length=4):
    """What training leaves of it: the config as Config.dump writes it, and scalars."""
    start = rung.folder / '20260101_000000/vis_data'
    start.mkdir(parents=True)
    (start / 'config.py').write_text(rung.cfg.pretty_text)
    rows = [dict(loss=1.0, time=0.5, iter=length, step=length),
            {'teacher/mIoU': 41.0, 'student/mIoU': 40.0, 'time': 0.1, 'step': length}]
    (start / 'scalars.json').write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
    return rung


def test_a_run_of_the_row_is_finished(rung):
    assert not rung().trained
    found = trained(rung(given=['optim_wrapper.optimizer.lr=0.{seed}5'], seed=1))
    assert found.given == ['randomness.seed=1', 'optim_wrapper.optimizer.lr=0.15']
    assert found.finished and found.values() == dict(teacher=41.0, student=40.0)


@pytest.mark.parametrize('change, named', [
    (dict(options=['consistency_weight=7.0']), r'_weight=100\.0.*_weight=7\.0'),
    (dict(given=['optim_wrapper.optimizer.lr=0.5']), r'lr=0\.05.*lr=0\.5'),
    (dict(seed=1), None),
    (dict(data=DATA.replace('labeled.txt', 'others.txt')), 'ann_file=labeled.txt.*others.txt'),
    (dict(data=DATA.replace('max_iters=4', 'max_iters=2')), 'max_iters=4.*max_iters=2')])
def test_a_run_of_something_else_is_not_taken_for_it(rung, change, named):
    was = trained(rung())
    change = dict(change)
    other = rung(*change.pop('options', ()), **change)
    if named is None:
        shutil.copytree(was.folder, other.folder)  # renamed by hand
        named = 'seed=0.*seed=1'
    with pytest.raises(ValueError, match=f'is of another training, .*{named}'):
        assert other.finished


def test_a_run_that_began_elsewhere_is_not_taken_for_it(rung, tmp_path):
    anew = trained(rung())
    from_weights = Rung(anew.row, 0, tmp_path, start=('weights.pth',))
    with pytest.raises(ValueError, match='mine_seed0 began anew, the row would not: give --start'):
        assert from_weights.finished
    from_weights.begun.touch()  # as write_start leaves it
    assert from_weights.finished
    with pytest.raises(ValueError, match='mine_seed0 began from --start, the row would not'):
        assert anew.finished


def test_a_shorter_run_goes_on_and_its_tests_are_forgotten(rung, monkeypatch, tmp_path):
    trained(rung(data=DATA.replace('max_iters=4', 'max_iters=2')), 2)
    longer = rung(data=DATA.replace("test_dataloader = val_dataloader", (
        f'test_dataloader = {dict(tiny.val_loader_cfg("other"))!r}')))
    for network in ('teacher', 'student'):
        result = longer.folder / f'test_{network}/20260101_000000/20260101_000000.json'
        result.parent.mkdir(parents=True)
        result.write_text('{"mIoU": 12.0}')
    assert longer.tested('teacher') == 12.0 and not longer.finished
    (tmp_path / 'train.py').write_text('raise SystemExit(3)')
    monkeypatch.setattr(rungs, 'tools', lambda: tmp_path)
    assert finish(longer).startswith('mine_seed0 ended with 3: see')
    assert longer.tested('teacher') is None


def test_a_prefixed_metric_of_a_test_is_found(rung):
    found = rung()
    result = found.folder / 'test_teacher/a/a.json'
    result.parent.mkdir(parents=True)
    result.write_text('{"test/aAcc": 1.0, "test/mIoU": 12.0}')
    assert found.tested('teacher') == 12.0
    result.write_text('[1]')
    with pytest.raises(ValueError, match='a.json: not JSON'):
        found.tested('teacher')


@pytest.mark.parametrize('args, said', [
    (['--methods', 'cps', '--row', 'cps', 'cps', 'mixing=False'], 'the row cps is given twice'),
    (['--methods', 'cps', '--seeds', '1', '1'], 'the seed 1 is given twice'),
    (['--row', '../away', 'cps'], "--row '../away' names a file"),
])
def test_rows_that_would_share_a_folder_are_refused(rung, tmp_path, monkeypatch, args, said):
    rung()
    monkeypatch.setattr(sys, 'argv', ['ladder.py', '--data', str(tmp_path / "a user's data.py"),
                                      '--out', str(tmp_path / 'out'), '--table', *args])
    with pytest.raises(SystemExit, match=f'ladder.py: {said}'):
        ladder.main()


def test_a_run_that_fails_is_in_the_exit_status(rung, tmp_path, monkeypatch, capsys):
    rung()
    (tmp_path / 'train.py').write_text('raise SystemExit(3)')
    monkeypatch.setattr(rungs, 'tools', lambda: tmp_path)
    monkeypatch.setattr(sys, 'argv', ['ladder.py', '--data', str(tmp_path / "a user's data.py"),
                                      '--out', str(tmp_path / 'out'), '--methods', 'cps'])
    with pytest.raises(SystemExit) as ended:
        ladder.main()
    assert ended.value.code == 1
    assert 'cps_seed0 ended with 3' in capsys.readouterr().out


@pytest.mark.parametrize('content, said', [
    (None, 'start.pth does not exist'), (b'no checkpoint', 'damaged, or no checkpoint'),
    ([1], 'it holds a list'), (dict(a=RuntimeError), 'is refused')])
def test_what_is_no_checkpoint_to_start_from(rung, tmp_path, monkeypatch, content, said):
    rung()
    path = tmp_path / 'start.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    monkeypatch.setattr(sys, 'argv', ['ladder.py'])
    with pytest.raises(SystemExit, match=f'ladder.py: .*{said}'):
        ladder.main(['--data', str(tmp_path / "a user's data.py"), '--methods', 'supervised',
                     '--out', str(tmp_path / 'out'), '--start', str(path)])


@pytest.mark.parametrize('left', ['nothing', 'gone.pth', 'a pipe'])
def test_a_run_that_names_no_last_checkpoint(tmp_path, left):
    if left == 'a pipe':  # which would be waited for
        os.mkfifo(tmp_path / 'last_checkpoint')
    elif left != 'nothing':
        (tmp_path / 'last_checkpoint').write_text(left)
    with pytest.raises(ValueError, match='no checkpoint that .last_checkpoint. names'):
        rungs.last_checkpoint(tmp_path)


@pytest.mark.parametrize('method, key, value', [
    ('u2pl', 'embedding', 'decode_head.conv_seg'), ('gta_seg', 'classifier', ('conv_seg', )),
    ('cutmix_seg', 'embedding', None)])
def test_a_method_is_fitted_to_a_head_without_the_layers_of_deeplab(tmp_path, method, key, value):
    """An FCNHead has no 'sep_bottleneck', which their configs name."""
    (tmp_path / 'data.py').write_text(
        f'{DATA}\nmodel["decode_head"] = {tiny.fcn()!r}\n')
    row = Row('mine', method)
    (tmp_path / 'mine.py').write_text(row.leaf(tmp_path / 'data.py'))
    model = Rung(row, 0, tmp_path).cfg.model
    assert model.get(key) == value
    assert MODELS.build(model).num_classes == model.segmentor.decode_head.num_classes


def test_a_row_is_called_what_it_trains(tmp_path):
    """Where the classifier cannot be run by itself PS-MT's noise is left out, and that said."""
    class OtherName(FCNHead):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.classify = self._modules.pop('conv_seg')

        def cls_seg(self, feat):
            return self.classify(feat)

        def init_weights(self):
            pass

    (tmp_path / 'data.py').write_text(
        f'{DATA}\nmodel["decode_head"] = {tiny.fcn(type="OtherName")!r}')
    row = Row('mine', 'ps_mt')
    MODELS.register_module(module=OtherName)
    try:
        (tmp_path / 'mine.py').write_text(row.leaf(tmp_path / 'data.py'))
    finally:
        MODELS.module_dict.pop('OtherName')
    assert Rung(row, 0, tmp_path).cfg.model.semi_train_cfg.vat_radius == row.cfg.vat_radius == 0
    assert row.title == 'PS-MT: vat_radius=0.0'


def test_a_network_that_no_method_can_wrap_is_named_with_its_row(tmp_path):
    (tmp_path / 'data.py').write_text(
        f'{DATA}\nmodel["decode_head"] = dict(type="Mask2FormerHead")\n')
    with pytest.raises(ValueError, match='^cps: Mask2FormerHead classifies masks'):
        Row('cps', 'cps').leaf(tmp_path / 'data.py')


def test_a_run_too_short_for_a_row_of_its_log_has_no_minutes(rung):
    found = trained(rung())
    assert found.minutes() == 0.5 * found.cfg.train_cfg.max_iters / 60
    scalars = next(found.folder.glob('*/vis_data/scalars.json'))
    scalars.write_text(scalars.read_text().splitlines()[1])  # its validation alone
    short = Rung(found.row, 0, found.out, found.options)
    assert short.minutes() is None
    assert table([short.row], [short]).endswith('| – |')


def test_gains_are_of_the_same_seed(tmp_path):
    """Seeds differ by more than methods do: 40 and 50 supervised, 41 and 52 here, is +1.5."""
    (tmp_path / 'data.py').write_text(DATA)
    found, rows = [], [Row('supervised', 'supervised'), Row('cps', 'cps'), Row('more', 'cps')]
    for row, scores in zip(rows, [(40.0, 50.0), (41.0, 52.0, 70.0), ()]):
        (tmp_path / f'{row.name}.py').write_text(row.leaf(tmp_path / 'data.py'))
        for seed, score in enumerate(scores):
            found.append(trained(Rung(row, seed, tmp_path)))
            scalars = next(found[-1].folder.glob('*/vis_data/scalars.json'))
            lines = scalars.read_text().splitlines()
            scalars.write_text('\n'.join([lines[0], json.dumps(
                {'student/mIoU': score, 'student2/mIoU': score, 'time': 0.1, 'step': 4})]))
    supervised, cps, more = table(rows, found).splitlines()[2:]
    assert '| 2 | student 45.00 ± 7.07 (40.0, 50.0) | – | – |' in supervised
    assert '| +1.50 (+1.0, +2.0) |' in cps and '| 3 |' in cps  # no third supervised seed
    assert more.split(' | ')[1:5] == ['0', 'student –', 'student2 –', '–']
