"""A loader worker that the system kills: an error that says so, soon, and a run that resumes."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from tiny import EMA, PARTS, loader_cfg, quiet, runner, write_data

from mmseg_esl.engine.loops.train_loop import _Later


class KillWorker(Hook):
    """SIGKILL one loader worker after iteration ``at``."""

    def __init__(self, at):
        self.at, self.when, self.pid = at, None, None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            workers = runner.train_loop.dataloader._iterator._workers
            self.when, self.pid = time.monotonic(), workers[0].pid
            os.kill(self.pid, signal.SIGKILL)


def train(tmp_path, data, hooks=(), **changes):
    loader = dict(loader_cfg(data), num_workers=2, persistent_workers=True)
    # a save that the error cuts off leaves no half a pointer, as mmengine's own hook may
    saves = dict(type='SemiCheckpointHook', by_epoch=False, interval=2, save_last=False)
    made = runner(tmp_path / 'work', data, [EMA, PARTS, *hooks],
                  train_cfg=dict(type='SemiTrainLoop', max_iters=6, val_interval=6),
                  train_dataloader=loader, default_hooks=dict(checkpoint=saves), **changes)
    made.train()
    return made


def killed(tmp_path):
    """(message of the error, seconds until it came, process killed), of a run in another process.

    There, because torch raises the error again whenever any child ends, for as long as the loader
    lives: that could be in the midst of pytest. A new one, no fork of pytest: its threads, and the
    locks that they hold, do not come along.
    """
    done = subprocess.run([sys.executable, __file__, tmp_path], capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
    told = tmp_path / 'told.json'
    assert told.is_file(), f'exit status {done.returncode}: {done.stderr[-3000:]}'
    return json.loads(told.read_text())


def run_and_tell(folder) -> None:
    """In the other process: train until the worker's death is noticed, and write what was said."""
    killer = KillWorker(at=4)
    try:
        with quiet():
            train(folder, folder / 'data', [killer])
    except RuntimeError as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or it would be raised again in here
        (folder / 'told.json').write_text(
            json.dumps([str(error), time.monotonic() - killer.when, killer.pid]))
    os._exit(0)  # no clean-up, which could raise it again


def test_killed_worker(tmp_path):
    write_data(tmp_path / 'data')
    message, seconds, pid = killed(tmp_path)
    print(f'killed worker: after {seconds:.2f} s: {message}')
    assert seconds < 10
    # the one or the other, as torch's signal handler comes between fetches or within one
    assert re.search(r'DataLoader worker.*(killed by signal|exited unexpectedly)', message)
    assert str(pid) in message

    folder = tmp_path / 'work'
    saved = {path.name: torch.load(path, weights_only=False) for path in folder.glob('iter_*.pth')}
    assert saved['iter_2.pth']['meta']['iter'] == 2
    with quiet():
        resumed = train(tmp_path, tmp_path / 'data', resume=True)
    assert resumed.iter == 6
    done = torch.load(folder / 'iter_6.pth', weights_only=False)
    assert done['state_dict']['ema_steps'] == 6  # no step lost, none counted twice


def test_killed_while_it_hands_a_batch_over():
    """Then multiprocessing's sockets speak first, of a connection."""
    class Worker:
        def __init__(self, pid, alive):
            self.pid, self.is_alive = pid, lambda: alive

    class Batches:
        _workers = [Worker(7, False), Worker(8, True)]

        def __iter__(self):
            return self

        def __next__(self):
            raise ConnectionResetError(104, 'Connection reset by peer')

    class Loader:
        dataset = None

        def __iter__(self):
            return Batches()

    with pytest.raises(RuntimeError, match=r'worker \(pid 7\) exited unexpectedly.*--resume'):
        next(iter(_Later(Loader())))


if __name__ == '__main__':
    run_and_tell(Path(sys.argv[1]))
