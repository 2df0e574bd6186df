"""Stages: once each, in their order, by one recipe."""
import json
import os

import pytest

from mmseg_esl.stages import run_stages
from mmseg_esl.storage.lock import Locked


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


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    """Each would take the stages for its own."""
    def second(folder):
        child = os.fork()
        if not child:
            try:
                run_stages(tmp_path, {}, dict(seed=0))
            except Locked as error:
                os._exit(7 if f'process {os.getppid()} on' in str(error) else 1)
            finally:
                os._exit(2)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
        return stage([], 'a')(folder)

    run_stages(tmp_path / 'new', {'a': stage([], 'a')}, dict(seed=0))  # makes its folder
    run_stages(tmp_path, {'a': second}, dict(seed=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'new', 'stages.json']


def test_refuses_another_recipe_and_lost_files(tmp_path):
    stages = {'a': stage([], 'a')}
    run_stages(tmp_path, stages, dict(seed=0, scales=(1, 2)))
    run_stages(tmp_path, stages, dict(seed=0, scales=(1, 2)))  # JSON has lists
    with pytest.raises(ValueError, match=r'seed: 0 -> 1.*another --work-dir'):
        run_stages(tmp_path, stages, dict(seed=1, scales=(1, 2)))
    (tmp_path / 'a/made.txt').unlink()
    with pytest.raises(ValueError, match=r'a is finished and its a/made.txt is gone'):
        run_stages(tmp_path, stages, dict(seed=0, scales=(1, 2)))
