"""Every method on CamVid at full size, three seeds: tools/ladder.py, the most important rows first.

    python dev/gpu/study.py --data-root data/camvid --minutes 25   # as often as a GPU is there
    python dev/gpu/study.py --data-root data/camvid --weights lite0.safetensors

Supervised training and ESL, UniMatch, ESL+, FixMatch come first, with all seeds; then the rows of
docs/results/recipe.md; then the other methods. OUT/results.md has the table, with machine, commit
and command, as docs/results/ wants it. What is finished is not trained again.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'dev'), str(ROOT / 'tools')]

import ladder
import torch
from bench.measuring import machine

from mmseg_esl.conversion import methods

FIRST = ['supervised', 'esl', 'unimatch', 'esl_plus', 'fixmatch']
RECIPE = [  # name, method, keys
    ['fixmatch_ema', 'fixmatch', 'labels_by=teacher'],
    ['colour_w1', 'esl_plus', 'cutmix=batch', 'alignment=0'],
    ['conf', 'esl_plus', 'weighting=confidence', 'alignment=0'],
    ['early', 'esl_plus', 'cutmix=batch', 'alignment=0', 'ema_momentum=0.97', 'warmup_iters=160',
     'ramp_iters=320']]
LISTS = 'splits/seed{seed}/1_16'
SETS = ('train_dataloader.dataset.labeled', 'train_dataloader.dataset.unlabeled',
        'val_dataloader.dataset', 'test_dataloader.dataset')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, default=ROOT / 'dev/study/camvid_full_1-16.py',
                        help='config; with --data-root it has lists of several seeds')
    parser.add_argument('--data-root', type=Path, help='CamVid, with splits/seed{0,1,2} in it')
    parser.add_argument('--weights', type=Path,
                        help="timm's file of the backbone, where there is no network to fetch it")
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/gpu_study')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=4, help='runs at a time, on one card')
    parser.add_argument('--minutes', type=float, default=float('inf'), help='then stop, to go on')
    parser.add_argument('--methods', nargs='+', help='these alone')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser.parse_args(argv)


def groups(only: list[str] | None) -> list[list[str]]:
    """Arguments of tools/ladder.py, the most important ones first."""
    if only:
        return [['--methods', *only]]
    rest = [name for name in methods() if name not in FIRST]
    return [['--methods', *FIRST], [word for row in RECIPE for word in ('--row', *row)],
            ['--methods', *rest]]


def options(args) -> list[str]:
    """What the config is given: where data and weights lie, and the lists of a run's seed."""
    found = []
    if args.data_root:
        found += [f'{key}.data_root={args.data_root.resolve()}' for key in SETS]
        found += [f'{key}.ann_file={LISTS}/{key.split(".")[-1]}.txt' for key in SETS[:2]]
    if args.weights:
        found.append('model.segmentor.backbone.pretrained_cfg_overlay.file='
                     f'{args.weights.resolve()}')
    return found + args.cfg_options


def main(argv=None) -> None:
    args, start = parse_args(argv), time.monotonic()
    common = ['--data', str(args.data), '--out', str(args.out), '--seeds', *map(str, args.seeds),
              '--jobs', str(args.jobs)]
    given, tables, faults = options(args), [], False
    given = ['--cfg-options', *given] if given else []
    for group in groups(args.methods):
        left = args.minutes - (time.monotonic() - start) / 60
        when = ['--minutes', str(left)] if left > 0 else ['--table']
        try:
            text = ladder.main([*common, *group, *when, *given])
        except SystemExit as error:
            if error.code != 1:  # a signal, or what it says of its arguments
                raise
            faults = True  # of some runs; the others count, and other groups are to come
            text = ladder.main([*common, *group, '--table', *given])
        tables.append(text)
        (args.out / 'results.md').write_text(page(tables, argv), encoding='utf-8')
    if faults:
        sys.exit(1)


def page(tables: list[str], argv) -> str:
    """One table of several, with what a reader has to know of the runs."""
    found = machine('cuda' if torch.cuda.is_available() else 'cpu')
    lines = tables[0].splitlines() + [line for text in tables[1:] for line in text.splitlines()[2:]]
    command = ' '.join(['python dev/gpu/study.py', *(sys.argv[1:] if argv is None else argv)])
    return (f"{found['gpu'] or found['cpu']}, torch {found['torch']}, commit {found['commit']}; "
            f'mIoU of the last iteration.\n\n```bash\n{command}\n```\n\n' + '\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
