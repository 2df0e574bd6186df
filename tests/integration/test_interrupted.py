"""Processes that are asked to stop, and processes that die: training goes on from a checkpoint."""
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from commands import TOOLS, logged, run
from line import make_runner
from mmengine.hooks import Hook
from mmengine.utils.dl_utils import collect_env
from project import write_project

import mmseg_esl.register  # noqa: F401  (so that the hook is known)
from mmseg_esl import stack
from mmseg_esl.engine.interrupt import Interrupt

RUNNING = []  # forks
CHECKPOINTS = dict(type='mmseg.SemiCheckpointHook', by_epoch=False, interval=1000)


class Tell(Hook):
    """Appends the iteration to a file, and takes its time."""

    def __init__(self, path):
        self.path = path

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(self.path, 'a') as file:
            file.write(f'{runner.iter + 1}\n')
        time.sleep(0.02)


def train(folder, rank=0, world=1, port=0, workers=0, max_iters=10**6, limit=None):
    options = {}
    if limit is not None and rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    if world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
                          MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        stack.start_gloo('pytorch')
        options = dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='gloo')),
                       cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel',
                                                       device_ids=None)))
    runner = make_runner(folder, max_iters, name=f'{rank}', checkpoint=CHECKPOINTS, resume=True,
                         custom_hooks=[Tell(folder / f'rank{rank}')], workers=workers,
                         log_level='WARNING', **options)
    runner.train()


@pytest.fixture(autouse=True)
def nobody_stays():
    """A test that fails leaves no process behind."""
    yield
    while RUNNING:
        os.kill(RUNNING[-1], signal.SIGKILL)
        os.waitpid(RUNNING.pop(), 0)


@pytest.fixture(scope='module', autouse=True)
def imported():
    """What every Runner imports in order to log the environment; once for all forks."""
    collect_env()


def fork(folder, rank=0, group=False, **options):
    """Train in a process of its own, of which everything is imported already."""
    child = os.fork()
    if child:
        RUNNING.append(child)
        return child
    status = 99
    try:
        if group:
            os.setpgid(0, 0)
        sys.stdout = sys.stderr = open(folder / f'said{rank}', 'a', buffering=1)
        os.dup2(sys.stderr.fileno(), 2)
        train(folder, rank, **options)
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait_for(path, line):
    end = time.monotonic() + 300  # a machine may be busy
    while not (path.exists() and line in path.read_text().split()):
        assert time.monotonic() < end, f'{path} never said {line}'
        time.sleep(0.01)


def status_of(child) -> int:
    end = time.monotonic() + 300
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            RUNNING.remove(child)
            return os.WEXITSTATUS(status)
        assert time.monotonic() < end, f'process {child} never ended'
        time.sleep(0.01)


def last(folder, rank=0) -> int:
    return int((folder / f'rank{rank}').read_text().split()[-1])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('workers', [0, 2])
def test_signal_saves_and_ends(tmp_path, number, workers):
    """The whole group gets it, loader workers too, as from a terminal or from torchrun."""
    child = fork(tmp_path, workers=workers, group=True)
    wait_for(tmp_path / 'rank0', '3')
    os.killpg(child, number)
    said = tmp_path / 'said0'
    assert status_of(child) == 128 + number, said.read_text()
    done = last(tmp_path)
    content = torch.load(tmp_path / f'iter_{done}.pth', weights_only=True)
    assert content['meta']['iter'] == done
    assert f'{number.name}: finishing this iteration' in said.read_text()
    assert f'stopped after iteration {done}' in said.read_text()
    assert 'Traceback' not in said.read_text()

    child = fork(tmp_path, max_iters=done + 2)
    assert status_of(child) == 0, said.read_text()
    assert [int(i) for i in (tmp_path / 'rank0').read_text().split()] == [*range(1, done + 3)]


def test_second_signal_ends_at_once():
    interrupt = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt.listen()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)  # the echo of the first
            assert interrupt.asked() == signal.SIGINT
            interrupt._since -= 10
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            interrupt.release()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Fail(Hook):

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        raise OSError('as if the disk had gone')


def test_an_error_leaves_the_signals_as_they_were(tmp_path):
    """In a notebook, Ctrl-C would do nothing from then on."""
    runner = make_runner(tmp_path, 4, checkpoint=CHECKPOINTS, custom_hooks=[Fail()],
                         log_level='WARNING')
    with pytest.raises(OSError, match='as if the disk had gone'):
        runner.train()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def fork_two(folder, **options):
    with contextlib.closing(socket.socket()) as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return [fork(folder, rank, world=2, port=port, **options) for rank in (0, 1)]


def said_by(folder):
    return ''.join((folder / f'said{rank}').read_text() for rank in (0, 1))


def test_ranks_stop_and_resume_together(tmp_path):
    children = fork_two(tmp_path)
    wait_for(tmp_path / 'rank1', '3')
    os.kill(children[1], signal.SIGTERM)  # one is asked
    assert [status_of(child) for child in children] == [143, 143], said_by(tmp_path)
    done = last(tmp_path)
    assert last(tmp_path, 1) == done
    whole = (tmp_path / f'iter_{done}.pth').read_bytes()

    (tmp_path / f'iter_{done + 1}.pth').write_bytes(whole[:-100])  # both pass over the newest
    children = fork_two(tmp_path, max_iters=done + 2)
    assert [status_of(child) for child in children] == [0, 0], said_by(tmp_path)
    for rank in (0, 1):
        told = [int(i) for i in (tmp_path / f'rank{rank}').read_text().split()]
        assert told == [*range(1, done + 3)]


def test_torchrun_restarts_and_resumes(tmp_path):
    """Rank 1 of 2 is killed before the sixth iteration; the last checkpoint is of the third."""
    config, work = write_project(tmp_path), tmp_path / 'work'
    path = os.pathsep.join([str(Path(__file__).parent), os.environ['PYTHONPATH']])
    said = run(TOOLS / 'dist_train.sh', config, 2, '--work-dir', work, '--resume', '--cfg-options',
               'default_hooks.kill.type=kill_hook.KillHook', 'default_hooks.kill.at=5',
               'default_hooks.kill.rank=1', 'train_cfg.val_interval=100',
               PET_MAX_RESTARTS=1, PYTHONPATH=path)
    assert 'no checkpoint in' in said and 'resumed epoch: 0, iter: 3' in said, said
    done = [entry['iter'] for entry in logged(work) if 'loss' in entry]
    assert done == [1, 2, 3, 4, 5, 4, 5, 6]
    assert torch.load(work / 'iter_6.pth', weights_only=True)['meta']['iter'] == 6


def test_ctrl_c_of_the_tool(tmp_path):
    """``train.py``, as a person starts and stops it."""
    config, work = write_project(tmp_path), tmp_path / 'work'
    path = os.pathsep.join([str(Path(__file__).parent), os.environ['PYTHONPATH']])
    done = subprocess.run(
        [sys.executable, TOOLS / 'train.py', config, '--work-dir', work, '--cfg-options',
         'default_hooks.kill.type=kill_hook.KillHook', 'default_hooks.kill.at=1',
         f'default_hooks.kill.number={int(signal.SIGINT)}'],
        env={**os.environ, 'PYTHONPATH': path}, text=True, capture_output=True)
    assert done.returncode == 130, done.stderr
    assert 'Traceback' not in done.stderr and 'go on with --resume' in done.stdout + done.stderr
    assert torch.load(work / 'iter_2.pth', weights_only=True)['meta']['iter'] == 2
