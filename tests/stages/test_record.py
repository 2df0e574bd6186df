"""Stages: once each, in their order, by one recipe."""
import json

import pytest

from mmseg_esl.stages import run_stages


def stage(calls, name, fails=False):
    def run(folder):
        calls.append(name)
        if fails:
            raise RuntimeError('killed')
        folder.mkdir(parents=True)
        (folder / 'made.txt').write_text(name)
        return [folder / 'made.txt']
    return run


def test_a_stopped_run_goes_on_with_what_is_left(tmp_path):
    calls, said = [], []
    with pytest.raises(RuntimeError, match='killed'):
        run_stages(tmp_path, {'a': stage(calls, 'a'), 'b': stage(calls, 'b', fails=True)},
                   dict(seed=0), said.append)
    both = {'a': stage(calls, 'a'), 'b': stage(calls, 'b')}
    made = run_stages(tmp_path, both, dict(seed=0), said.append)
    assert calls == ['a', 'b', 'b'] and said[-2:] == ['a is finished', 'b begins']
    assert made == {name: [tmp_path / name / 'made.txt'] for name in 'ab'}
    assert run_stages(tmp_path, both, dict(seed=0), said.append) == made and len(calls) == 3
    assert json.loads((tmp_path / 'stages.json').read_text())['finished'] == {
        'a': ['a/made.txt'], 'b': ['b/made.txt']}


def test_refuses_another_recipe_and_lost_files(tmp_path):
    stages = {'a': stage([], 'a')}
    run_stages(tmp_path, stages, dict(seed=0, scales=(1, 2)))
    run_stages(tmp_path, stages, dict(seed=0, scales=(1, 2)))  # JSON has lists
    with pytest.raises(ValueError, match=r'seed: 0 -> 1.*another --work-dir'):
        run_stages(tmp_path, stages, dict(seed=1, scales=(1, 2)))
    (tmp_path / 'a/made.txt').unlink()
    with pytest.raises(ValueError, match=r'a is finished and its a/made.txt is gone'):
        run_stages(tmp_path, stages, dict(seed=0, scales=(1, 2)))
