"""Train supervised-only and ESL+ on drawn images, print one table, write pictures.

    python tools/demo/run.py                   one seed
    python tools/demo/run.py --seeds 0 1 2 3 4     mean and spread

Each seed draws its own data set and initialises its own networks. Logs, checkpoints, tables and
pictures go below --out.
"""
from __future__ import annotations

import argparse
import contextlib
import gc
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tools'), str(Path(__file__).resolve().parent)]

from cli_common import ready

CONFIGS = dict(supervised='esl/demo/supervised.py', esl_plus='esl_plus/demo/esl_plus.py')
SIZES = dict(labeled=16, unlabeled=300, test=120)
QUICK = dict(labeled=8, unlabeled=24, test=12)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'),
                        help='folder for everything that is written (default: %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--iters', type=int, help='training iterations (default: the config\'s)')
    parser.add_argument('--quick', action='store_true',
                        help='few images, 40 iterations: does everything run? Figures mean nothing')
    args = parser.parse_args(argv)
    if min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        parser.error(f'--seeds must be distinct and not negative, got {args.seeds}')
    if args.iters is not None and args.iters < 8:
        parser.error(f'--iters must be at least 8, got {args.iters}')
    if args.quick and args.iters is None:
        args.iters = 40
    return args


def load_config(method: str, work_dir: Path, data: Path, seed: int, iters: int | None):
    """The method's config for this data set; iters, if given, scales all of its schedules."""
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


def train(method: str, cfg, console, title: str):
    """Train and test one method; returns (model, metrics, seconds). Its output goes to a file."""
    from mmengine.runner import Runner
    from progress import ProgressHook
    Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    hook = ProgressHook(console, title)
    log = Path(cfg.work_dir) / 'console.txt'
    with open(log, 'w', encoding='utf-8') as file, contextlib.redirect_stdout(file), \
            contextlib.redirect_stderr(file):
        try:
            runner = Runner.from_cfg(cfg)
            runner.register_hook(hook)
            runner.train()
        finally:
            hook.close()
    return runner.model, hook.metrics, time.perf_counter() - started


def run_seed(seed: int, args, console) -> dict:
    """Both methods on one data set; returns {row: {'mIoU': ..., 'IoU': {class: ...}}} and times."""
    import torch
    from pictures import contact_sheet
    from synthetic import make_dataset
    folder = args.out / f'seed{seed}'
    with console.status(f'seed {seed}: drawing images'):
        data = make_dataset(folder / 'data', seed, **(QUICK if args.quick else SIZES))
    rows, models, seconds = {}, {}, {}
    for method in CONFIGS:
        cfg = load_config(method, folder / method, data, seed, args.iters)
        model, metrics, seconds[method] = train(method, cfg, console, f'seed {seed}: {method:10}')
        models[method] = model.eval()
        for network in ('student', 'teacher'):
            rows[f'{method} {network}'] = {
                'mIoU': float(metrics[f'{network}/mIoU']),
                'IoU': {c: float(metrics[f'{network}/IoU.{c}'])
                        for c in cfg.metainfo['classes']}}
    picture = folder / 'pictures.png'
    with torch.no_grad(), console.status(f'seed {seed}: painting pictures'):
        contact_sheet(models['supervised'], models['esl_plus'], data, picture)
    del models, model
    gc.collect()
    return dict(seed=seed, rows=rows, seconds=seconds, picture=str(picture))


def main(argv=None) -> int:
    args = parse_args(argv)
    ready()
    import torch
    from report import print_table, write_report
    from rich.console import Console
    torch.set_num_threads(1)  # networks this small gain nothing from more; the same sums everywhere
    # this stream itself: while a method trains, sys.stdout is its log file
    console = Console(highlight=False, file=sys.stdout)
    started = time.perf_counter()
    sizes = QUICK if args.quick else SIZES
    console.print('[bold]ESL+ demo[/bold]: {labeled} labelled and {unlabeled} unlabelled images to '
                  'learn from, {test} others to test on'.format(**sizes))
    results = [run_seed(seed, args, console) for seed in args.seeds]
    print_table(results, console)
    written = write_report(results, args, sizes, ROOT)
    for path in [*(r['picture'] for r in results), *written]:
        console.print(f'written: {path}')
    console.print(f'{time.perf_counter() - started:.0f} s in all; logs, checkpoints: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
