"""Run the CamVid study of docs/results/camvid.md, or what is left of it, and print its tables.

    python tools/camvid_study.py --data-root data/camvid

One run after another; one that was begun is not repeated (remove its folder to do so). Several of
these commands may share the work: each takes a run that nobody has begun. ``--tables`` prints what
there is and runs nothing.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / 'configs/esl/esl_lite0_camvid_1-16.py'
VARIANTS = {'sup': 'supervised', 'hard': 'hard label', 'dsl': 'DSL', 'dsl+ctr': 'ESL'}
# supervised and ESL on both partitions first, then the ablations at 1/16
RUNS = [(p, s, v) for p in ('1_16', '1_8') for s in (0, 1) for v in ('sup', 'dsl+ctr')]
RUNS += [('1_16', s, v) for s in (0, 1) for v in ('dsl', 'hard')]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', default='data/camvid', help='CamVid, with splits/ in it')
    parser.add_argument('--config', default=str(CONFIG))
    parser.add_argument('--work-dir', default='work_dirs/camvid', type=Path)
    parser.add_argument('--cfg-options', nargs='*', default=[], help='for every run')
    parser.add_argument('--tables', action='store_true', help='print the tables only')
    return parser.parse_args()


def folder(args, run) -> Path:
    partition, seed, variant = run
    return args.work_dir / f'{partition}_seed{seed}_{variant}'


def train(args, run) -> None:
    """One run as a user would type it; seed s trains on splits/seed<s> with random seed s."""
    partition, seed, variant = run
    out, root = folder(args, run), os.path.abspath(args.data_root)
    lists = f'{root}/splits/seed{seed}/{partition}'
    command = [
        sys.executable, str(HERE / 'train.py'), args.config, '--work-dir', str(out),
        '--cfg-options', f'model.semi_train_cfg.variant={variant}', f'randomness.seed={seed}',
        f'train_dataloader.dataset.labeled.ann_file={lists}/labeled.txt',
        f'train_dataloader.dataset.unlabeled.ann_file={lists}/unlabeled.txt',
        *[f'{key}.data_root={root}' for key in (
            'train_dataloader.dataset.labeled', 'train_dataloader.dataset.unlabeled',
            'val_dataloader.dataset', 'test_dataloader.dataset')], *args.cfg_options]
    print(' '.join(command), flush=True)
    with open(out / 'console.log', 'w') as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def result(args, run) -> dict | None:
    """The last validation's metrics, or None while there is none."""
    rows = [json.loads(line) for path in sorted(folder(args, run).glob('*/vis_data/scalars.json'))
            for line in path.read_text().splitlines()]
    rows = [row for row in rows if 'teacher/mIoU' in row]
    return rows[-1] if rows else None


def print_tables(args) -> None:
    found = {run: result(args, run) for run in RUNS}
    for partition in ('1_16', '1_8'):
        name = partition.replace('_', '/')
        print(f'\n### {name} labelled: mIoU on the test set, last iteration\n')
        print('| training | seed 0 student | seed 0 teacher | seed 1 student | seed 1 teacher | '
              'mean student | mean teacher |\n|---|---|---|---|---|---|---|')
        for variant, title in VARIANTS.items():
            rows = [found.get((partition, s, variant)) for s in (0, 1)]
            if any(rows):
                cells = [[row and row[f'{w}/mIoU'] for row in rows] for w in ('student', 'teacher')]
                flat = [cells[w][s] for s in (0, 1) for w in (0, 1)]
                means = [statistics.mean(c) if all(c) else None for c in cells]
                print(f'| {title} | ' + ' | '.join('–' if x is None else f'{x:.2f}'
                                                  for x in flat + means) + ' |')
        print_classes(found, partition)


def print_classes(found, partition) -> None:
    some = next((row for run, row in found.items() if row and run[0] == partition), None)
    if some is None:
        return
    names = [key.split('IoU.')[1] for key in some if key.startswith('teacher/IoU.')]
    print('\nIoU of each class, mean of the seeds, teacher (supervised: its EMA)\n')
    print('| training | ' + ' | '.join(names) + ' |\n|---' + '|---' * len(names) + '|')
    for variant, title in VARIANTS.items():
        rows = [r for r in (found.get((partition, s, variant)) for s in (0, 1)) if r]
        if rows:
            means = [statistics.mean(r[f'teacher/IoU.{n}'] for r in rows) for n in names]
            print(f'| {title} | ' + ' | '.join(f'{m:.1f}' for m in means) + ' |')


def main() -> None:
    args = parse_args()
    for run in RUNS if not args.tables else ():
        try:
            folder(args, run).mkdir(parents=True)
        except FileExistsError:  # finished, or somebody else's
            continue
        train(args, run)
    print_tables(args)


if __name__ == '__main__':
    main()
