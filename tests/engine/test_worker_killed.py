"""A loader worker that the system kills: an error that says so, soon, and a run that resumes."""
import os
import signal
import time

import pytest
import torch
from mmengine.hooks import Hook
from tiny import EMA, PARTS, loader_cfg, quiet, runner, write_data


class KillWorker(Hook):
    """SIGKILL one loader worker after iteration ``at``."""

    def __init__(self, at):
        self.at, self.when, self.pid = at, None, None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            workers = runner.train_loop.dataloader_iterator._iterator._workers
            self.when, self.pid = time.monotonic(), workers[0].pid
            os.kill(self.pid, signal.SIGKILL)


def train(tmp_path, data, hooks=(), **changes):
    loader = dict(loader_cfg(data), num_workers=2, persistent_workers=True)
    made = runner(tmp_path / 'work', data, [EMA, PARTS, *hooks], max_iters=6, save_every=2,
                  train_dataloader=loader, **changes)
    made.train()
    return made


def test_killed_worker(tmp_path):
    write_data(tmp_path / 'data')
    killer = KillWorker(at=4)
    # torch says the one or the other, as its signal handler comes between fetches or within one
    message = r'DataLoader worker.*(killed by signal|exited unexpectedly)'
    with quiet(), pytest.raises(RuntimeError, match=message) as caught:
        train(tmp_path, tmp_path / 'data', [killer])
    seconds = time.monotonic() - killer.when
    print(f'killed worker: after {seconds:.2f} s: {caught.value}')
    assert seconds < 10
    assert str(killer.pid) in str(caught.value)

    folder = tmp_path / 'work'
    saved = {path.name: torch.load(path, weights_only=False) for path in folder.glob('iter_*.pth')}
    assert saved['iter_2.pth']['meta']['iter'] == 2
    with quiet():
        resumed = train(tmp_path, tmp_path / 'data', resume=True)
    assert resumed.iter == 6
    done = torch.load(folder / 'iter_6.pth', weights_only=False)
    assert done['state_dict']['ema_steps'] == 6  # no step lost, none counted twice
