"""The GPU's one command, rehearsed on the CPU; what it leaves, goes on with, and says."""
import importlib.util
import json
import sys
import weakref
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gpu import report, run
from mmengine.config import ConfigDict


@pytest.fixture(scope='module')
def rehearsed(tmp_path_factory):
    out = tmp_path_factory.mktemp('gpu')
    assert run.main(['--out', str(out), '--rehearse']) == 0
    return out


def test_all_parts_are_done(rehearsed):
    for part in run.LIMITS:
        assert report.done(rehearsed, part), (rehearsed / 'log.txt').read_text()[-4000:]
        failed = {key: row['failed'] for key, row in report.rows(rehearsed, part).items()
                  if row.get('failed')}
        if part == 'transformers' and importlib.util.find_spec('timm') is None:
            assert 'pip install timm' in failed.popitem()[1]
        assert failed == {}
    outcomes = {key.split('::')[1].split('[')[0]: row['outcome']
                for key, row in report.rows(rehearsed, 'tests').items() if 'outcome' in row}
    assert outcomes.pop('test_two_ranks_on_one_card') == 'skipped'
    assert outcomes.pop('test_a_full_gpu_is_explained') == 'skipped'
    assert len(outcomes) == 10
    text = (rehearsed / 'report.md').read_text()
    for title in ('Tests', 'Step over floor: steps', 'Settings, ESL', 'Data loading'):
        assert f'\n## {title}' in text
    assert len(list(rehearsed.iterdir())) == len(run.LIMITS) + 2  # few, wherever they are sent
    assert text.splitlines()[0].endswith(', a rehearsal')
    step = report.rows(rehearsed, 'steps')['esl']
    assert f"| {step['ratio']:.2f}× |" in text and step['units'] == [8, 8]


def test_the_same_command_goes_on(rehearsed, capsys, monkeypatch):
    monkeypatch.setattr(run, 'run_parts', None)  # nothing is left to be started
    assert run.main(['--out', str(rehearsed), '--rehearse']) == 0
    # what failed is said again: here, that timm is not installed
    without_timm = importlib.util.find_spec('timm') is None
    assert ('left: nothing; failed: 1.' in capsys.readouterr().out) == without_timm


def test_a_part_is_cut_at_its_limit(tmp_path):
    (tmp_path / 'steps.jsonl').write_text('{"key": "esl", "failed": "x"}\n{"key": "unim')
    assert run.run_parts(['steps'], tmp_path, 0.3, rehearse=True) == 'cut after 0 s'
    assert list(report.rows(tmp_path, 'steps')) == ['esl']  # half a line is none
    assert '| esl | x |' in report.report(tmp_path)


def test_rows_come_one_by_one_and_once(tmp_path):
    from gpu import parts
    calls = []

    def item(key, fail=False):
        def measure():
            calls.append(key)
            if fail:
                raise ValueError('too small')
            return dict(value=len(calls))
        return key, measure

    parts.do('steps', iter([item('a'), item('b', fail=True)]), tmp_path)
    parts.do('steps', iter([item('a'), item('b'), item('c')]), tmp_path)
    assert calls == ['a', 'b', 'c', 'b']  # what has failed comes last
    assert report.done(tmp_path, 'steps')
    found = report.rows(tmp_path, 'steps')
    assert [found[key]['value'] for key in 'abc'] == [1, 4, 3] and 'failed' not in found['b']
    lines = (tmp_path / 'steps.jsonl').read_text().splitlines()
    said = [row['failed'] for row in map(json.loads, filter(None, lines)) if 'failed' in row]
    assert said == [report.BEGUN] * 2 + ['ValueError: too small'] + [report.BEGUN] * 2


def test_what_takes_its_process_along_comes_last_from_then_on(tmp_path):
    from gpu import parts
    calls = []

    def killed():
        calls.append('b')
        raise SystemExit  # as a signal would: nothing more is written

    def item(key):
        return key, lambda: calls.append(key) or {}

    for _ in range(2):
        with pytest.raises(SystemExit):
            parts.do('steps', iter([item('a'), ('b', killed), item('c')]), tmp_path)
    assert calls == ['a', 'b', 'c', 'b']
    assert report.rows(tmp_path, 'steps')['b']['failed'] == report.BEGUN
    assert not report.done(tmp_path, 'steps')


CARD = dict(gpu='A card', cpu='x', python='3', torch='2', commit='abc', rehearsed=False)


@pytest.mark.parametrize('before,left,said', [
    (CARD, [], ''),
    (dict(CARD, rehearsed=True, gpu=None), ['steps'], 'a CPU, torch 2, commit abc; they stay in'),
    (dict(CARD, gpu='Another'), ['steps'], 'Another, torch 2, commit abc; they stay in the file'),
    (dict(CARD, torch='1'), ['steps'], 'torch 1, commit abc; they stay in the file'),
    (dict(CARD, commit='old'), [], 'commit old; they count; another --out begins anew')])
def test_rows_of_another_machine_count_for_nothing(tmp_path, capsys, before, left, said):
    for row in (dict(key=report.MACHINE, **before), dict(key='esl', failed='x'), dict(key='done')):
        report.append(tmp_path, 'steps', row)
    args = SimpleNamespace(out=tmp_path, parts=['steps'], again=False)
    assert run.left_to_do(args, CARD) == left
    printed = capsys.readouterr().out
    assert said in printed and bool(said) == bool(printed)
    assert list(report.rows(tmp_path, 'steps')) == ([] if left else ['esl'])
    assert report.done(tmp_path, 'steps') == (not left)
    assert run.left_to_do(args, CARD) == left and (not left or not capsys.readouterr().out)
    args.again = True
    assert run.left_to_do(args, CARD) == ['steps']
    assert 'A card, Python 3, torch 2, commit ' in report.report(tmp_path)


def test_commits_of_all_rows_are_said(tmp_path):
    for row in (dict(key=report.MACHINE, **dict(CARD, commit='old')), dict(key='a', failed='x'),
                dict(key=report.MACHINE, **CARD), dict(key='b', failed='y')):
        report.append(tmp_path, 'steps', row)
    assert report.about(tmp_path) == 'A card, Python 3, torch 2, commit old, abc'
    assert [row['commit'] for row in report.rows(tmp_path, 'steps').values()] == ['old', 'abc']
    for row in (dict(key=report.MACHINE, **dict(CARD, gpu='Another')), dict(key='c', failed='z')):
        report.append(tmp_path, 'loading', row)
    assert report.about(tmp_path).split('\n\n') == [
        'Another, Python 3, torch 2, commit abc (loading)',
        'A card, Python 3, torch 2, commit old, abc (steps)']


def test_what_has_failed_is_tried_again_when_asked(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(run, 'run_parts', lambda names, *args, **kwargs: begun.append(names) or '')
    monkeypatch.setattr(run, 'begin', lambda rehearse: (CARD, ''))
    rows = dict.fromkeys(run.LIMITS, dict(key='a'))
    rows['steps'], rows['tests'] = dict(key='esl', failed='x'), dict(key='a', outcome='skipped')
    for part, row in rows.items():
        for one in (dict(key=report.MACHINE, **CARD), row, dict(key=report.DONE)):
            report.append(tmp_path, part, one)
    monkeypatch.setattr(run, 'report', lambda out: '')
    run.main(['--out', str(tmp_path), '--rehearse'])
    assert begun == []
    run.main(['--out', str(tmp_path), '--rehearse', '--again'])
    assert begun == [['tests', 'steps']]


def test_a_part_may_have_what_the_others_leave():
    total = sum(run.LIMITS.values())
    assert run.allowed('tests', [name for name in run.LIMITS if name != 'tests'], total) == 150
    assert run.allowed('settings', [], total) == total
    assert run.allowed('steps', ['loading'], 400) == 350
    assert run.allowed('steps', ['loading'], 60) == 60  # short of time, the first one has it


def test_a_part_that_ends_by_itself_is_begun_again_if_it_had_found_something(tmp_path, capsys,
                                                                             monkeypatch):
    starts = []

    def dies(names, out, seconds, rehearse):
        starts.append(names)
        with open(out / 'steps.jsonl', 'a') as file:
            file.write(json.dumps(dict(key=f'a{min(len(starts), 2)}', failed='lost')) + '\n')
        return 'ended with 9'

    monkeypatch.setattr(run, 'run_parts', dies)
    run.run_on('steps', tmp_path, [], run.time.monotonic() + 600)
    assert len(starts) == 3 and 'steps: ended with 9 (' in capsys.readouterr().out


def test_how_a_part_ended_is_shown(tmp_path):
    said = run.run_parts(['no_such_part'], tmp_path, 100, rehearse=True)
    assert said.startswith('ended with 2: see ') and "invalid choice: 'no_such_part'" in said


def test_what_nothing_can_begin_without_is_asked_once():
    who, said = run.begin(rehearse=True)
    assert said == '' and who['rehearsed'] and who['gpu'] is None
    assert (who['torch'], who['threads']) == (torch.__version__, 1)
    assert run.begin(True, 'import nowhere_to_be.inside') == (
        {}, 'missing: nowhere_to_be (for anything)')
    assert run.begin(True, 'raise ValueError("no DEVICE")')[1].endswith('ValueError: no cpu')


def test_a_process_without_its_gpu_ends(tmp_path, monkeypatch):
    from gpu import parts

    def lost():
        raise RuntimeError('CUDA error: device-side assert triggered')

    def broken():
        raise RuntimeError('CUDA error')

    monkeypatch.setattr(parts.torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(parts.torch.cuda, 'synchronize', lost)
    monkeypatch.setattr(parts.os, '_exit', sys.exit)
    with pytest.raises(SystemExit, match=str(parts.LOST)):
        parts.do('steps', iter([('a', broken), ('b', dict)]), tmp_path)
    assert list(report.rows(tmp_path, 'steps')) == ['a'] and not report.done(tmp_path, 'steps')


def test_fewer_images_where_the_memory_is_too_small(monkeypatch):
    """What the larger batch held is gone before the smaller one is built."""
    from gpu import parts
    held, sizes = [], []

    class Large:
        pass

    def measure(model, optimizer, data, rounds):
        sizes.append((data, [one for one in held if one() is not None]))
        if data > 4:
            mine = Large()
            held.append(weakref.ref(mine))
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return dict(times=0, ratio=1.0)

    freed = []
    monkeypatch.setattr(parts, 'free', lambda: freed.append([x for x in held if x() is not None]))
    monkeypatch.setattr(parts.floors, 'measure', measure)
    monkeypatch.setattr(parts.models, 'build', lambda cfg, device: (None, None))
    monkeypatch.setattr(parts.models, 'make_batch', lambda batch, *args: batch)
    asked = parts.Sizes(rehearse=True)
    asked.batches = (8, 4)
    cfg = ConfigDict(model=dict(segmentor=dict(data_preprocessor=dict(size=(9, 9)))))
    assert parts.step(asked, 'R18', lambda: cfg) == dict(network='R18', ratio=1.0)
    assert sizes == [(8, []), (4, [])] and freed == [[]]


def test_a_skipped_test_is_asked_again(tmp_path):
    from gpu import parts
    for outcome in ('skipped', 'passed', 'failed'):
        report.append(tmp_path, 'tests', dict(key=outcome, outcome=outcome))
    items = [SimpleNamespace(nodeid=name) for name in ('new', 'skipped', 'passed', 'failed')]
    report.append(tmp_path, 'tests', dict(key='failed', outcome='failed', failed='x'))
    parts.AsTheyCome(tmp_path).pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ['new', 'skipped', 'failed']


def test_settings_take_fewer_images_too(monkeypatch):
    from gpu import parts
    tried = []

    def measure(cfg, device, batch, *args, **setting):
        tried.append(len(batch['inputs']))
        if len(batch['inputs']) > 8:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return dict(seconds=1.0)

    monkeypatch.setattr(parts.settings_of, 'measure', measure)
    asked = parts.Sizes(rehearse=True)
    asked.batches = (8, 4)
    _, row = next(parts.settings(asked, None))
    assert row() == dict(images=8, seconds=1.0) and tried == [16, 8]


def test_every_method_is_measured_with_both_transformers():
    from gpu import parts
    asked = parts.Sizes(rehearse=False)
    keys = [key for key, _ in parts.transformers(asked, None)]
    assert keys[0] == 'dinov2-s14_dpt esl' and len(set(keys)) == len(keys)
    assert set(keys) == {f'dinov2-{size}14_dpt {name}' for size in 'sb' for name in parts.methods()}


def test_transformers_are_rehearsed(tmp_path):
    pytest.importorskip('timm', reason='the backbone is of timm: pip install timm')
    assert run.main(['--out', str(tmp_path), '--rehearse', '--parts', 'transformers']) == 0
    assert report.rows(tmp_path, 'transformers')['dinov2-s14_dpt esl']['units'] == [8, 8]
    assert report.done(tmp_path, 'transformers')


FAILS = """
import helper_of_it
def test_deep():
    helper_of_it.check(3)
def test_fine():
    pass
"""


def test_a_failure_says_where(tmp_path, capsys, monkeypatch):
    from gpu import parts
    monkeypatch.setattr(parts, 'ROOT', tmp_path.resolve())
    (tmp_path / 'helper_of_it.py').write_text('def check(x):\n    raise ValueError(x)\n')
    (tmp_path / 'test_fails.py').write_text(FAILS)
    (tmp_path / 'test_broken.py').write_text('import nowhere_to_be\n')
    before = list(sys.path)
    try:
        pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:faulthandler', '--rootdir',
                     str(tmp_path), '--continue-on-collection-errors', str(tmp_path)],
                    plugins=[parts.AsTheyCome(tmp_path)])
    finally:
        sys.path[:] = before
    found = report.rows(tmp_path, 'tests')
    assert found['test_fails.py::test_fine']['outcome'] == 'passed'
    assert found['test_fails.py::test_deep']['failed'].split(None, 1) == [
        'E', 'ValueError: 3 < helper_of_it.py:2 < test_fails.py:4']
    assert "No module named 'nowhere_to_be'" in found['test_broken.py']['failed']
    assert 'def check(x):' in capsys.readouterr().out.split('= FAILURES =')[0]  # said at once


def test_a_row_behind_one_that_was_cut_is_kept(tmp_path):
    from gpu import parts
    (tmp_path / 'steps.jsonl').write_text('{"key": "a", "value": 1}\n[2]\n{"key": "b", "va')
    parts.do('steps', iter([('b', lambda: dict(value=3))]), tmp_path)
    found = report.rows(tmp_path, 'steps')
    assert {key: row['value'] for key, row in found.items()} == dict(a=1, b=3)


NEEDED = dict(run.NEEDED)


def test_what_is_missing_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, 'NEEDED', dict(torch='anything', nowhere_to_be='tests'))
    assert run.missing() == ('missing: nowhere_to_be (for tests)', False)
    for name in ('cv2', 'rich', 'ftfy', 'regex', 'scipy'):
        assert NEEDED[name] == 'anything'
    monkeypatch.setattr(run, 'NEEDED', dict(nowhere_to_be='anything'))
    assert run.main(['--out', str(tmp_path), '--rehearse']) == 1
    assert capsys.readouterr().out == 'missing: nowhere_to_be (for anything)\n'


def wheel(folder: Path, name: str, tag: str) -> None:
    with zipfile.ZipFile(folder / f'{name}-1.0-{tag}.whl', 'w') as file:
        info = f'{name}-1.0.dist-info'
        file.writestr(f'{name}.py', 'VALUE = 7\n')
        file.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
        file.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n'
                                       f'Tag: {tag}\n')
        file.writestr(f'{info}/RECORD', '')


def test_wheels_of_what_is_missing(tmp_path):
    folder, site = tmp_path / 'wheels', tmp_path / 'site'
    folder.mkdir()
    wheel(folder, 'semi_tiny_thing', 'py3-none-any')
    for there in ('torch', 'nvidia_nothing', 'pytest'):  # never, never, and installed already
        wheel(folder, there, 'py3-none-any')
    assert run.add_wheels(folder, str(site)) == ''
    assert {path.name for path in site.glob('*.py')} == {'semi_tiny_thing.py'}
    wheel(folder, 'semi_old_thing', 'cp27-none-any')
    assert 'semi-old-thing' in run.add_wheels(folder, str(site))
    assert importlib.util.find_spec('semi_tiny_thing') is None
