"""What an iteration of tools/train.py costs beyond the step: hooks, logging, saving, loading.

    python dev/bench/bare_loop.py configs/esl/esl_lite0_camvid_1-16.py --data-root data/camvid

The config is trained as tools/train.py would, without its warm-up. After each so many iterations as
lie between two lines of the log, a bare loop with a copy of the same networks, optimiser and loss
takes as many steps in the same process, on batches that lie ready: preprocessing, forward,
backward, the optimiser's step, the averages. The ratio is the median over these blocks.
"""
from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'dev'), str(ROOT / 'tools')]

import cli_common  # noqa: F401 - finds the package and mends the stack
import torch
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from bench.measuring import machine, positive
from mmseg_esl.engine.unwrap import unwrap
from mmseg_esl.storage.config import hooks_in, offline

READY = 4  # batches of the bare loop
CLOCKS = {'wall': time.perf_counter, 'process': time.process_time}


class SideBySide:
    """Takes a Runner's training apart, and a bare loop's steps in between.

    Args:
        runner: not yet started. block: iterations of the one, then of the other. warmup: blocks
            that do not count. clock: seconds, of the wall or of the process.

    ``rows`` has the seconds of each block's iteration: ``whole``, of which ``loader`` (waiting for
    a batch) and ``hooks``; and ``bare``.
    """

    def __init__(self, runner: Runner, block: int, warmup: int = 1, clock=time.perf_counter):
        self.runner, self.block, self.warmup, self.rows = runner, block, warmup, []
        self.clock = clock
        self.bare, self.done, self.spent = None, 0, dict(loader=0.0, hooks=0.0)
        self._hook, runner.call_hook = runner.call_hook, self._call_hook

    def _call_hook(self, name: str, **kwargs) -> None:
        begin = self.clock()
        self._hook(name, **kwargs)
        self.spent['hooks'] += self.clock() - begin
        if name == 'before_train_epoch':  # all that hooks prepare is there
            loop = self.runner.train_loop
            loop.dataloader_iterator = self._timed(loop.dataloader_iterator)
            self._begin()
        if name == 'after_train_iter':
            self.done += 1
            if self.done % self.block == 0:
                self._end_block()

    def _timed(self, batches):
        while True:
            begin = self.clock()
            batch = next(batches)
            self.spent['loader'] += self.clock() - begin
            yield batch

    def _begin(self) -> None:
        self.spent, self.begin = dict(loader=0.0, hooks=0.0), self.clock()

    def _end_block(self) -> None:
        whole = self.clock() - self.begin
        if self.bare is None:
            self.bare = BareLoop(self.runner)
        begin = self.clock()
        for _ in range(self.block):
            self.bare.step()
        row = dict(whole=whole, bare=self.clock() - begin, **self.spent)
        if self.warmup:
            self.warmup -= 1
        else:
            self.rows.append({key: value / self.block for key, value in row.items()})
        self._begin()


class BareLoop:
    """The same networks, optimiser and loss, and nothing else."""

    def __init__(self, runner: Runner):
        self.model, self.number = copy.deepcopy(unwrap(runner.model)), 0
        self.optimizer = build_optim_wrapper(self.model, runner.cfg.optim_wrapper).optimizer
        self.optimizer.load_state_dict(runner.optim_wrapper.optimizer.state_dict())
        loader = iter(runner.build_dataloader(runner.cfg.train_dataloader, seed=0))
        self.batches = [next(loader) for _ in range(READY)]
        del loader  # ends the workers

    def step(self) -> None:
        model, batch = self.model, self.batches[self.number % READY]
        data = model.data_preprocessor(batch, training=True)
        losses = model.loss(**data)
        total = sum(value.mean() for key, value in losses.items() if 'loss' in key)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        model.after_optimizer_step(model.iter + self.number)
        self.number += 1


def table(rows: list[dict], save: float, every: int) -> str:
    """Markdown: milliseconds of an iteration, medians over the blocks.

    Args:
        rows: of SideBySide. save: seconds of one checkpoint. every: iterations between two.
    """
    whole, bare, loader, hooks = (statistics.median(row[key] for row in rows)
                                  for key in ('whole', 'bare', 'loader', 'hooks'))
    ratios = sorted(row['whole'] / row['bare'] for row in rows)
    ratio, quarter = statistics.median(ratios), len(ratios) // 4
    lines = [('bare loop', bare, 1.0), ('train.py', whole, ratio), ('... waits for a batch', loader,
             loader / bare), ('... hooks', hooks, hooks / bare),
             (f'a checkpoint each {every}', save / every, save / every / bare)]
    return '\n'.join(['| | ms an iteration | of the bare loop |', '|---|--:|--:|',
                      *(f'| {name} | {1000 * x:.1f} | {share:.3f} |' for name, x, share in lines),
                      '', 'of half of the blocks: '
                      f'{ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}'])


def train(cfg: Config, block: int, clock) -> tuple[list[dict], float]:
    """The blocks of a run of the whole config, and the seconds that one checkpoint takes."""
    runner = Runner.from_cfg(cfg)
    side = SideBySide(runner, block, clock=clock)
    runner.train()
    begin = clock()
    runner.save_checkpoint(runner.work_dir, 'last.pth', by_epoch=False)
    return side.rows, clock() - begin


def prepare(path: str, root: str | None, iters: int, options: dict | None) -> tuple[Config, int]:
    """The config for so many iterations without warm-up or validation; and iterations a save."""
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    cfg.model = offline(cfg.model)  # weights do not matter to the clock
    cfg.model.semi_train_cfg.update(warmup_iters=0, ramp_iters=0)
    for hook in hooks_in(cfg):
        if 'begin' in hook:  # what is to be found after the warm-up
            hook.begin = 0
    cfg.train_cfg.update(max_iters=iters)
    every = cfg.default_hooks.checkpoint.interval
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg',
                'test_evaluator'):
        cfg.pop(key, None)
    cfg.default_hooks.checkpoint.pop('save_best', None)
    sets = cfg.train_dataloader.dataset
    for one in (sets.labeled, sets.unlabeled) if root else ():
        one.data_root = os.path.abspath(root)
    return cfg, every


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--data-root', help="in place of the config's")
    parser.add_argument('--blocks', type=positive, default=5)
    parser.add_argument('--block', type=positive,
                        help='iterations; default: of two lines in the log')
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument('--clock', choices=CLOCKS, default='wall',
                        help="'process': what other programs take does not count, nor does waiting;"
                             ' for one thread that loads by itself, on a busy CPU')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    cfg, every = prepare(args.config, args.data_root, 0, args.cfg_options)
    block = args.block or cfg.default_hooks.logger.interval
    cfg.train_cfg.max_iters = block * (args.blocks + 1)  # the first does not count
    cfg.default_hooks.logger.interval = block
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        rows, save = train(cfg, block, CLOCKS[args.clock])
    found = machine('cuda' if torch.cuda.is_available() else 'cpu')
    print(f"\n{found['gpu'] or found['cpu']}, {found['threads']} threads, torch {found['torch']}, "
          f"commit {found['commit']}, {len(rows)} blocks of {block}, {args.clock} clock\n\n"
          f'{table(rows, save, every)}')


if __name__ == '__main__':
    main()
