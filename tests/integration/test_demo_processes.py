"""The demo's training processes end with it, and what it says of one that fails."""
import importlib.util
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import demo_jobs
import pytest
from rich.console import Console


@pytest.fixture(scope='module')
def module():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location(
        'demo_run', Path(__file__).parents[2] / 'tools/demo/run.py')
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    yield found
    sys.path[:] = path


@pytest.fixture
def demo(module, monkeypatch):
    """The demo with trainings that take no time, or all of it."""
    monkeypatch.setattr(module, 'begin', demo_jobs.begin)
    monkeypatch.setattr(module, 'train', demo_jobs.train)
    return module


@pytest.mark.parametrize('number, status', [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_process_is_left(number, status):
    """Its output ends when the last process that may write to it is gone."""
    process = subprocess.Popen([sys.executable, demo_jobs.__file__], text=True,
                               stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert [process.stdout.readline() for _ in range(2)] == ['begun\n'] * 2
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == status
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_results_and_progress_come_back(demo):
    said = io.StringIO()
    found = demo.train_all({(0, 'ends'): 'a', (1, 'ends'): 'b'}, 1, Console(file=said))
    assert found == {(0, 'ends'): (dict(cfg='a'), 2.0), (1, 'ends'): (dict(cfg='b'), 2.0)}
    assert [line.split() for line in said.getvalue().splitlines()] == [
        ['seed', f'{seed}:', 'ends', '30/40', 'loss', '0.500'] for seed in (0, 1)]


def test_a_training_that_fails_ends_the_others(demo):
    """One sentence that names it and its output; the other would take ten minutes."""
    configs = {(3, method): SimpleNamespace(work_dir=f'there/{method}')
               for method in ('fails', 'lasts')}
    start = time.monotonic()
    with pytest.raises(SystemExit, match=r'seed 3: fails failed \(ValueError: no such thing\); see '
                                         'there/fails/console.txt'):
        demo.train_all(configs, 2, Console(file=io.StringIO()))
    assert time.monotonic() - start < 300


def test_a_process_that_was_killed_is_said(demo):
    said = demo.failure(0, 'esl_plus', None, BrokenProcessPool('terminated abruptly'))
    assert said.endswith('a training process was killed, by the system if memory ran out: '
                         'try fewer --jobs')


@pytest.mark.parametrize('given, said', [
    (['--seeds', '0', '0'], 'distinct'), (['--seeds', '-1'], 'of 0 to'),
    (['--seeds', str(2 ** 32)], 'of 0 to'), (['--iters', '7'], 'at least 8'),
    (['--jobs', '0'], 'at least 1')])
def test_what_cannot_be_is_refused(demo, capsys, given, said):
    with pytest.raises(SystemExit):
        demo.parse_args(given)
    assert said in capsys.readouterr().err
