"""Train supervised-only and ESL+ on drawn images, print one table, write pictures.

    python tools/demo/run.py                   one seed
    python tools/demo/run.py --seeds 0 1 2 3 4     mean and spread

Each seed draws its own data set and initialises its own networks. Logs, checkpoints, tables and
pictures go below --out.
"""
from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# this folder first: tools/ has a report.py as well
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / 'tools')]

from cli_common import program, ready

from mmseg_esl.processes import end_with_parent, ended_with_us

CONFIGS = dict(supervised='esl_plus/demo/supervised.py', esl_plus='esl_plus/demo/esl_plus.py')
SIZES = dict(labeled=16, unlabeled=300, test=120)
QUICK = dict(labeled=8, unlabeled=24, test=12)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'),
                        help='folder for everything that is written (default: %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--iters', type=int, help='training iterations (default: the config\'s)')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1,
                        help='trainings at a time, each on one core (default: %(default)s)')
    parser.add_argument('--quick', action='store_true',
                        help='few images, 40 iterations: does everything run? Figures mean nothing')
    args = parser.parse_args(argv)
    if len(set(args.seeds)) < len(args.seeds) or not all(0 <= s < 2 ** 32 for s in args.seeds):
        parser.error(f'--seeds must be distinct and of 0 to {2 ** 32 - 1}, got {args.seeds}')
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, got {args.jobs}')
    if args.iters is not None and args.iters < 8:
        parser.error(f'--iters must be at least 8, got {args.iters}')
    if args.quick and args.iters is None:
        args.iters = 40
    return args


def load_config(method: str, work_dir: Path, data: Path, seed: int, iters: int | None):
    """The method's config for this data set; iters, if given, scales its schedules, the average's
    momentum not."""
    from mmengine.config import Config

    from mmseg_esl.storage.config import hooks_in
    cfg = Config.fromfile(str(ROOT / 'configs' / CONFIGS[method]))
    cfg.work_dir, cfg.randomness, cfg.launcher = str(work_dir), dict(seed=seed), 'none'
    # mmengine keeps one visualiser of each name in a process, with the folder of its first run
    cfg.visualizer.name = str(work_dir)
    sets = cfg.train_dataloader.dataset
    for dataset in (sets.labeled, sets.unlabeled, cfg.val_dataloader.dataset,
                    cfg.test_dataloader.dataset):
        dataset.data_root = str(data)
    if iters is not None:
        scale = iters / cfg.max_iters
        semi = cfg.model.semi_train_cfg
        for holder, keys in ((cfg.train_cfg, ('max_iters', 'val_interval')),
                             (cfg.default_hooks.checkpoint, ('interval',)),
                             (semi, ('warmup_iters', 'ramp_iters')),
                             *((s, ('begin', 'end')) for s in cfg.param_scheduler),
                             *((h, ('begin',)) for h in hooks_in(cfg))):
            for key in keys:
                if holder.get(key):
                    holder[key] = max(1, round(holder[key] * scale))
    return cfg


def begin(queue) -> None:
    """What each process does first; ``queue`` takes a training's progress, None: it trains none."""
    if queue is not None:
        end_with_parent()
    ready()
    import torch

    import mmseg_esl.register  # noqa: F401 - registers every component
    torch.set_num_threads(1)  # networks this small gain nothing from more; the same sums everywhere
    begin.queue = queue


def train(method: str, cfg, title: str):
    """Train and test one method; returns (metrics, seconds). Its output goes to a file."""
    from mmengine.runner import Runner
    from progress import ReportHook
    Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    hook = ReportHook(begin.queue, title)
    log = Path(cfg.work_dir) / 'console.txt'
    with open(log, 'w', encoding='utf-8') as file, contextlib.redirect_stdout(file), \
            contextlib.redirect_stderr(file):
        try:
            runner = Runner.from_cfg(cfg)
            runner.register_hook(hook)
            runner.train()
        except Exception:
            traceback.print_exc()
            raise
    return hook.metrics, time.perf_counter() - started


def train_all(configs: dict, jobs: int, console) -> dict:
    """{(seed, method): (metrics, seconds)} of {(seed, method): config}, ``jobs`` at a time.

    Raises:
        SystemExit: one failed, which it names; no process is left.
    """
    from progress import Board
    context = multiprocessing.get_context('spawn')
    queue = context.SimpleQueue()
    with Board(console) as board, ProcessPoolExecutor(jobs, context, begin, (queue,)) as pool, \
            ended_with_us():
        # the longest first, so that the last to end is a short one
        ordered = sorted(configs, key=lambda key: key[1] == 'supervised')
        runs = {pool.submit(train, method, configs[seed, method], f'seed {seed}: {method:10}'):
                (seed, method) for seed, method in ordered}
        left = set(runs)
        while left:
            ended, left = wait(left, timeout=0.5, return_when=FIRST_EXCEPTION)
            while not queue.empty():
                board.show(*queue.get())
            for run in ended:
                if run.exception():
                    sys.exit(failure(*runs[run], configs[runs[run]], run.exception()))
    return {key: run.result() for run, key in runs.items()}


def failure(seed: int, method: str, cfg, error: BaseException) -> str:
    """What is said of a training that did not come to its end."""
    if isinstance(error, BrokenProcessPool):  # whose it was nobody knows
        return (f'{program()}: a training process was killed, by the system if memory ran out: '
                'try fewer --jobs')
    return (f'{program()}: seed {seed}: {method} failed ({type(error).__name__}: {error}); see '
            f'{Path(cfg.work_dir) / "console.txt"}')


def trained(cfg):
    """The model of a finished run, from its last checkpoint."""
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.runner import load_checkpoint
    init_default_scope('mmseg')
    folder = Path(cfg.work_dir)
    checkpoint = folder / (folder / 'last_checkpoint').read_text().strip()
    with open(folder / 'console.txt', 'a', encoding='utf-8') as file, \
            contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        model = MODELS.build(cfg.model)
        load_checkpoint(model, str(checkpoint), map_location='cpu')
    return model.eval()


def rows_of(metrics: dict, method: str, classes) -> dict:
    """{row: {'mIoU': ..., 'IoU': {class: ...}}} of both networks."""
    return {f'{method} {network}': {
        'mIoU': float(metrics[f'{network}/mIoU']),
        'IoU': {name: float(metrics[f'{network}/IoU.{name}']) for name in classes}}
        for network in ('student', 'teacher')}


def run_seeds(args, console) -> list[dict]:
    """Both methods on each seed's data; their rows, times and picture."""
    import torch
    from pictures import contact_sheet
    from synthetic import make_dataset
    data, configs = {}, {}
    for seed in args.seeds:
        folder = args.out / f'seed{seed}'
        with console.status(f'seed {seed}: drawing images'):
            data[seed] = make_dataset(folder / 'data', seed, **(QUICK if args.quick else SIZES))
        for method in CONFIGS:
            configs[seed, method] = load_config(
                method, folder / method, data[seed], seed, args.iters)
    ended = train_all(configs, min(args.jobs, len(configs)), console)
    results = []
    for seed in args.seeds:
        rows, picture = {}, args.out / f'seed{seed}' / 'pictures.png'
        for method in CONFIGS:
            cfg = configs[seed, method]
            rows.update(rows_of(ended[seed, method][0], method, cfg.metainfo['classes']))
        with torch.no_grad(), console.status(f'seed {seed}: painting pictures'):
            contact_sheet(*(trained(configs[seed, method]) for method in CONFIGS),
                          data[seed], picture)
        results.append(dict(seed=seed, rows=rows, picture=str(picture),
                            seconds={method: ended[seed, method][1] for method in CONFIGS}))
    return results


def main(argv=None) -> int:
    args = parse_args(argv)
    begin(None)
    from report import print_table, write_report
    from rich.console import Console
    console = Console(highlight=False)
    started = time.perf_counter()
    sizes = QUICK if args.quick else SIZES
    console.print('[bold]ESL+ demo[/bold]: {labeled} labelled and {unlabeled} unlabelled images to '
                  'learn from, {test} others to test on'.format(**sizes))
    try:
        results = run_seeds(args, console)
        print_table(results, console)
        written = write_report(results, args, sizes, ROOT)
    except OSError as error:
        sys.exit(f'{program()}: {error}')
    for path in [*(r['picture'] for r in results), *written]:
        console.print(f'written: {path}')
    console.print(f'{time.perf_counter() - started:.0f} s in all; logs, checkpoints: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
