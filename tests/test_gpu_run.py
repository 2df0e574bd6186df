"""The GPU's one command, rehearsed on the CPU; what it leaves, goes on with, and says."""
import importlib.util
import json
import zipfile
from pathlib import Path

import pytest
from gpu import report, run


@pytest.fixture(scope='module')
def rehearsed(tmp_path_factory):
    out = tmp_path_factory.mktemp('gpu')
    assert run.main(['--out', str(out), '--rehearse']) == 0
    return out


def test_all_parts_are_done(rehearsed):
    for part in run.LIMITS:
        assert (rehearsed / f'{part}.done').exists(), (rehearsed / 'tests.log').read_text()[-4000:]
        failed = {key: row['failed'] for key, row in report.rows(rehearsed, part).items()
                  if row.get('failed')}
        if part == 'transformers' and importlib.util.find_spec('timm') is None:
            assert 'pip install timm' in failed.popitem()[1]
        assert failed == {}
    outcomes = {key.split('::')[1].split('[')[0]: row['outcome']
                for key, row in report.rows(rehearsed, 'tests').items() if 'outcome' in row}
    assert outcomes.pop('test_two_ranks_on_one_card') == 'skipped'
    assert outcomes.pop('test_a_full_gpu_is_explained') == 'skipped'
    assert len(outcomes) == 6
    text = (rehearsed / 'report.md').read_text()
    for title in ('Tests', 'Step over floor: steps', 'Settings, ESL', 'Data loading'):
        assert f'\n## {title}' in text
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
    assert calls == ['a', 'b', 'b', 'c'] and (tmp_path / 'steps.done').exists()
    found = report.rows(tmp_path, 'steps')
    assert [found[key]['value'] for key in 'abc'] == [1, 3, 4] and 'failed' not in found['b']
    lines = (tmp_path / 'steps.jsonl').read_text().splitlines()
    first = [json.loads(line) for line in lines if line]
    assert first[1]['failed'] == 'ValueError: too small'


def test_a_row_behind_one_that_was_cut_is_kept(tmp_path):
    from gpu import parts
    (tmp_path / 'steps.jsonl').write_text('{"key": "a", "value": 1}\n[2]\n{"key": "b", "va')
    parts.do('steps', iter([('b', lambda: dict(value=3))]), tmp_path)
    found = report.rows(tmp_path, 'steps')
    assert {key: row['value'] for key, row in found.items()} == dict(a=1, b=3)


def test_what_is_missing_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, 'NEEDED', dict(torch='anything', nowhere_to_be='tests'))
    assert run.missing(rehearse=True) == ('missing: nowhere_to_be (for tests)', False)
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
