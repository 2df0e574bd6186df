"""Several methods by one recipe: trained once, gone on with, and their table."""
import json
import re

import forked
import pytest
from commands import inside
from project import DATA, write_project

from mmseg_esl.ladder import rungs

METHODS = ('supervised', 'mean_teacher', 'cps')


@pytest.fixture(autouse=True)
def forks(monkeypatch):
    """Trainings are forks of this process; test_gpu_study.py starts them as a user's are."""
    monkeypatch.setattr(rungs, 'run_until', lambda over, command, log: forked.command(
        *command[1:], folder='.', file=log.name))


@pytest.fixture(scope='module')
def ladder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ladder')
    write_project(folder)
    (folder / 'data.py').write_text(DATA)

    def call(*args):
        return inside('ladder.py', '--data', folder / 'data.py', '--out', folder / 'out',
                      '--methods', *METHODS, *args)

    return folder / 'out', call


def rows(text) -> dict:
    return {cells[0]: cells for cells in (
        [cell.strip() for cell in line.strip('| ').split('|')]
        for line in text.splitlines() if line.startswith('| ')) if cells[0] != 'method'}


def test_trains_goes_on_and_prints(ladder):
    out, call = ladder
    nothing = rows(call('--table'))
    assert {cells[1] for cells in nothing.values()} == {'0'}
    # as if it had ended there
    first = call('--methods', 'mean_teacher', '--cfg-options', 'train_cfg.max_iters=2')
    assert '0 of 1 runs are finished' in first
    assert {cells[1] for cells in rows(first).values()} == {'1'}
    assert {cells[1] for cells in rows(call('--table')).values()} == {'0'}  # two of four
    said = call()
    assert '0 of 3 runs are finished' in said and said.count('is finished\n') == 3
    for name in METHODS:
        log = (out / f'{name}_seed0/ladder.log').read_text()
        assert ('resumed epoch: 0, iter: 2' in log) == (name == 'mean_teacher')
        assert (out / f'{name}_seed0/iter_4.pth').is_file()
    table = rows(said)
    assert {name: cells[5] for name, cells in table.items()} == {
        'supervised': '3', 'Mean Teacher': '8', 'CPS': '12'}
    for name, cells in table.items():
        predicts, other = dict(supervised=('student', ''), CPS=('student', 'student2')).get(
            name, ('teacher', 'student'))
        assert cells[1] == '1' and re.fullmatch(predicts + r' \d+\.\d\d', cells[2])
        assert re.fullmatch(other + r' \d+\.\d\d' if other else '–', cells[3])
        gain = float(cells[2].split()[1]) - float(table['supervised'][2].split()[1])
        assert name == 'supervised' and cells[4] == '–' or float(cells[4]) == pytest.approx(
            gain, abs=0.011) and cells[4][0] in '+-'
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.pth')}
    again = call()
    assert '3 of 3 runs are finished' in again and rows(again) == table
    assert {path: path.stat().st_mtime_ns for path in out.rglob('*.pth')} == before


def test_an_unknown_method_is_named(ladder):
    with pytest.raises(AssertionError, match='ladder.py: --method nothing: choose one of.*cps'):
        ladder[1]('--methods', 'nothing')


def test_a_row_of_keys_is_scored_on_the_test_images(ladder, tmp_path):
    out, call = ladder
    data = tmp_path / 'tested.py'
    data.write_text(f"_base_ = '{out.parent / 'data.py'}'\n"
                    "test_dataloader = dict(dataset=dict(ann_file='labeled.txt', data_prefix=dict("
                    "img_path='images/train', seg_map_path='masks/train')))\n")
    args = ('--data', data, '--out', tmp_path / 'out', '--row', 'both', 'supervised',
            'average=True')
    cells = rows(inside('ladder.py', *args))['supervised: average=True']
    folder = tmp_path / 'out/both_seed0'
    found = {name: json.loads(next((folder / f'test_{name}').glob('*/*.json')).read_text())['mIoU']
             for name in ('student', 'teacher')}
    assert cells[1] == '1' and cells[5] == '3'
    # the one that predicts is the config's choice, supervised's student
    assert (cells[2], cells[3]) == tuple(f'{name} {found[name]:.2f}'
                                         for name in ('student', 'teacher'))
    validated = [json.loads(line) for line in next(folder.glob('*/vis_data/scalars.json')).open()]
    assert [row['student/mIoU'] for row in validated if 'student/mIoU' in row][-1] != \
        pytest.approx(found['student'], abs=1e-3)
    again = inside('ladder.py', *args)
    assert '1 of 1 runs are finished' in again
    wrong = tmp_path / 'wrong'
    with pytest.raises(AssertionError, match='--row NAME METHOD'):
        inside('ladder.py', '--data', data, '--out', wrong, '--row', 'alone')
