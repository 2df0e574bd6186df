"""Kill a training run again and again, and look at what is left: ``python dev/drills/crash.py``.

A tiny ESL model on drawn images saves after every iteration. Each attempt is a process that
resumes and is killed with SIGKILL: inside a save, or at any moment of its life. After each death
the folder is read without mmseg_esl, and the next attempt must resume from the newest whole
checkpoint. Processes are forks of this one, which has imported everything.
``--hook CheckpointHook`` shows mmengine's own.
"""
import argparse
import copy
import ctypes
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests/integration')]

from mmseg_esl import stack

stack.install()

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmengine.utils.dl_utils import collect_env
from mmseg.registry import HOOKS
from project import write_project

import mmseg_esl.register  # noqa: F401
from mmseg_esl.engine import SemiCheckpointHook

BEGIN, END, STARTED = b'(', b')', b'!'  # what an attempt reports: a save begins and ends; training
HOOK = dict(SemiCheckpointHook=SemiCheckpointHook, CheckpointHook=CheckpointHook)


def reporting(base, pipe):
    """The checkpoint hook of a run that says where it is."""

    class Reporting(base):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if not hasattr(self, 'started'):
                self.started = True
                os.write(pipe, b'%d%s' % (runner.iter, STARTED))

        def _save_checkpoint_with_step(self, runner, step, meta):
            os.write(pipe, BEGIN)
            super()._save_checkpoint_with_step(runner, step, meta)
            os.write(pipe, END)

    return Reporting


def attempt(config, work, keep, base, pipe):
    """One process: resume and train until it is killed. Never returns."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # Linux: it dies with its parent
    try:
        out = os.open(work.parent / 'said.log', os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        HOOKS.register_module('Reporting', module=reporting(base, pipe))
        cfg = copy.deepcopy(config)
        cfg.work_dir, cfg.resume = str(work), True
        cfg.default_hooks.checkpoint = dict(type='Reporting', by_epoch=False, interval=1,
                                            max_keep_ckpts=keep)
        Runner.from_cfg(cfg).train()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)  # it does not end by itself


def is_whole(path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, weights_only=False)  # mmengine's own hook writes its own types
    except Exception:  # whatever the matter is, it cannot be read
        return False
    return True


def newest_whole(work):
    """The iteration of the newest whole checkpoint, or None."""
    found = [int(path.stem.split('_')[1]) for path in work.glob('iter_*.pth') if is_whole(path)]
    return max(found, default=None)


class Attempt:
    """A forked run, and what it reported."""

    def __init__(self, *args):
        self.pipe, writing = os.pipe()
        self.said, self.born = b'', time.monotonic()
        self.child = os.fork()
        if not self.child:
            os.close(self.pipe)
            attempt(*args, writing)
        os.close(writing)

    def hear(self, what, count=1, seconds=900) -> bool:
        """Wait for the count-th report of a kind; False when the run ends before."""
        end = time.monotonic() + seconds
        while self.said.count(what) < count:
            ready = select.select([self.pipe], [], [], max(0, end - time.monotonic()))[0]
            more = os.read(self.pipe, 4096) if ready else b''
            if not more:
                return False
            self.said += more
        return True

    def kill(self) -> bool:
        """SIGKILL; whether that is what ended it."""
        os.kill(self.child, signal.SIGKILL)
        status = os.waitpid(self.child, 0)[1]
        more = b'-'
        while more:
            more = os.read(self.pipe, 4096)
            self.said += more
        os.close(self.pipe)
        return os.WIFSIGNALED(status)

    @property
    def resumed(self):
        """The iteration that training went on from, or None where it did not come to that."""
        found = re.search(rb'(\d+)!', self.said)
        return int(found.group(1)) if found else None

    @property
    def in_save(self) -> bool:
        return self.said.count(BEGIN) > self.said.count(END)


class Series:
    """Kills in one work folder."""

    def __init__(self, config, folder, keep, base, seed):
        self.args = (config, folder / f'keep_{keep}', keep, base)
        self.work, self.rng = self.args[1], random.Random(seed)
        self.kills = self.inside = self.lost = self.refused = self.wrong = self.resumed = 0
        self.saved, self.expected = False, None

    def calibrate(self) -> None:
        """Measure a save, and the time until a few are done."""
        run = Attempt(*self.args)
        times = []
        for count in (1, 2, 3):
            if not run.hear(BEGIN, count):
                run.kill()
                sys.exit((self.work.parent / 'said.log').read_text()[-4000:])
            began = time.monotonic()
            run.hear(END, count)
            times.append(time.monotonic() - began)
        self.save, self.life = sorted(times)[1], time.monotonic() - run.born
        self._after(run)

    def kill(self, inside: bool) -> None:
        run = Attempt(*self.args)
        if inside:
            run.hear(BEGIN, self.rng.randint(1, 3))
            time.sleep(self.rng.uniform(0, 1.1 * self.save))
        else:
            time.sleep(self.rng.uniform(0, 1.2 * self.life))
        self._after(run)

    def _after(self, run) -> None:
        killed = run.kill()
        self.kills += killed
        self.inside += killed and run.in_save
        if not killed:
            self.refused += 1
        elif run.resumed is not None:
            self.resumed += run.resumed == (self.expected or 0)
            self.wrong += run.resumed != (self.expected or 0)
        self.saved = self.saved or END in run.said
        self.expected = newest_whole(self.work)
        self.lost += killed and self.saved and self.expected is None
        if not killed or (self.saved and self.expected is None):
            shutil.rmtree(self.work)  # mmengine's own hook comes to this; begin again
            self.saved, self.expected = False, None

    def finish(self) -> None:
        """One more attempt, which only has to resume."""
        run = Attempt(*self.args)
        run.hear(STARTED)
        self._after(run)

    def figures(self) -> str:
        return (f'{self.kills} kills, {self.inside} inside a save (of {1000 * self.save:.0f} ms); '
                f'without a whole checkpoint after: {self.lost}; runs that came to train: '
                f'{self.resumed + self.wrong}, from the newest whole checkpoint: {self.resumed}; '
                f'runs that could not resume: {self.refused}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=60, help='least number per max_keep_ckpts')
    parser.add_argument('--inside', type=int, default=30, help='of them inside a save, at least')
    parser.add_argument('--keep', type=int, nargs='+', default=[1, 3], help='max_keep_ckpts')
    parser.add_argument('--hook', default='SemiCheckpointHook', choices=list(HOOK))
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the forks inherit no threads
    warnings.simplefilter('ignore')
    collect_env()  # which imports much
    bad = 0
    with tempfile.TemporaryDirectory(prefix='drill-crash-') as folder:
        config = Config.fromfile(str(write_project(folder)))
        config.train_cfg.update(max_iters=10**6, val_interval=10**6)
        for keep in args.keep:
            series = Series(config, Path(folder), keep, HOOK[args.hook], args.seed)
            series.calibrate()
            while series.kills < args.kills or series.inside < args.inside:
                left = args.kills - series.kills
                series.kill(inside=left <= args.inside - series.inside or series.kills % 2 == 0)
                if sys.stdout.isatty():
                    print(f'\r{series.kills} kills', end='', flush=True)
            series.finish()
            print(f'\r{args.hook}, max_keep_ckpts={keep}: {series.figures()}', flush=True)
            bad += series.lost + series.wrong + series.refused
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
