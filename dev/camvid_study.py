"""Run the CamVid study of docs/results/camvid.md, or what is left of it, and print its tables.

    python dev/camvid_study.py --data-root data/camvid

One run after another; one that was begun is not repeated (remove its folder to do so). Several of
these commands may share the work: each takes a run that nobody has begun. ``--tables`` prints what
there is and runs nothing.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools'))
from cli_common import ready

ready()
from mmengine.config import Config

from mmseg_esl.processes import ending_with_us
from mmseg_esl.results import group, make_table, read_run, to_markdown
from mmseg_esl.results.run import SCALARS
from mmseg_esl.storage.config import hook_key

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / 'configs/esl/esl_lite0_camvid_1-16.py'
# supervised and ESL on both partitions first, then the ablations at 1/16
RUNS = [(p, s, v) for p in ('1_16', '1_8') for s in (0, 1) for v in ('sup', 'dsl+ctr')]
RUNS += [('1_16', s, v) for s in (0, 1) for v in ('dsl', 'hard', 'K1', 'adaptive')]
# what is not a variant, but ESL with another number of parts
PARTS = {'K1': 'model.part_memory.num_parts=1', 'adaptive': '{parts}.adaptive=silhouette'}


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


def option(config, variant: str) -> str:
    """What makes a run of the config that variant."""
    if variant not in PARTS:
        return f'model.semi_train_cfg.variant={variant}'
    return PARTS[variant].format(parts=hook_key(Config.fromfile(config), 'PartInitHook'))


def train(args, run) -> None:
    """One run as a user would type it; seed s trains on splits/seed<s> with random seed s."""
    partition, seed, variant = run
    out, root = folder(args, run), os.path.abspath(args.data_root)
    lists = f'{root}/splits/seed{seed}/{partition}'
    command = [
        sys.executable, str(HERE.parent / 'tools/train.py'), args.config, '--work-dir', str(out),
        '--cfg-options', option(args.config, variant),
        f'randomness.seed={seed}',
        f'train_dataloader.dataset.labeled.ann_file={lists}/labeled.txt',
        f'train_dataloader.dataset.unlabeled.ann_file={lists}/unlabeled.txt',
        *[f'{key}.data_root={root}' for key in (
            'train_dataloader.dataset.labeled', 'train_dataloader.dataset.unlabeled',
            'val_dataloader.dataset', 'test_dataloader.dataset')], *args.cfg_options]
    print(' '.join(command), flush=True)
    with open(out / 'console.log', 'w') as log:
        subprocess.run(ending_with_us(command), check=True, stdout=log, stderr=subprocess.STDOUT)


def print_tables(args) -> None:
    """Of all runs that have logged something; unfinished ones are listed as such."""
    folders = [folder(args, run) for run in RUNS]
    runs = [read_run(path) for path in folders if any(path.glob(f'*/{SCALARS}'))]
    for found in group(runs).values():
        print(to_markdown(make_table(found), per_class=True))


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
