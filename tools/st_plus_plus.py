"""ST++ or ST: train, label the unlabelled images, train again; every stage can be interrupted.

    python tools/st_plus_plus.py configs/_base_/partitions/camvid_1-16.py --work-dir work_dirs/stpp
    python tools/st_plus_plus.py my_data.py --work-dir work_dirs/st --st --gpus 4

CONFIG trains a plain segmentor on a SemiDataset: data, network, optimiser, schedule, evaluation. It
is the recipe of every training stage. The same command goes on where a run was stopped: what
``stages.json`` of the work folder has as finished is not done again.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from cli_common import add_cfg_options, checkpoint_errors, config_file, program, ready

from mmseg_esl.commands import here
from mmseg_esl.processes import answered, ending_with_us
from mmseg_esl.terminal import say

TOOLS = Path(__file__).resolve().parent


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=here(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--st', action='store_true', help='ST: all images at once, three stages')
    parser.add_argument('--snapshots', type=int, default=3, help='K, which rank the images')
    parser.add_argument('--scales', type=float, nargs='+', metavar='S',
                        help='of labelling, each with both flips (default: the paper\'s, 0.5 to '
                             '2; 1 for the flips alone)')
    parser.add_argument('--relabel-all', action='store_true',
                        help='label the reliable half anew too, before the last training')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--gpus', type=int, default=1, help='processes of the training stages')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def trainer(gpus: int):
    """``train(config, folder)`` by train.py, in a process of its own."""
    start = ([sys.executable, TOOLS / 'train.py'] if gpus == 1 else
             ['bash', TOOLS / 'dist_train.sh'])

    def train(config: Path, folder: Path) -> None:
        number = [] if gpus == 1 else [gpus]
        command = [*start, config, *number, '--work-dir', folder, '--resume']
        code = wait(subprocess.Popen(ending_with_us(command),
                                     env={**os.environ, 'PYTHON': sys.executable}))
        if code:
            raise RuntimeError(f'{folder.name} ended with {code}. The same command goes on with it')

    return train


def wait(process) -> int:
    """Its exit status. A stop is left to the process, which saves first."""
    def note(number, _):
        if number == signal.SIGTERM:  # Ctrl-C reaches it by itself
            process.send_signal(number)

    with answered((signal.SIGINT, signal.SIGTERM), note):
        return process.wait()


def main() -> None:
    args = parse_args()
    ready()
    with checkpoint_errors():
        run(args)


def run(args) -> None:
    import torch
    from mmengine.config import Config

    from mmseg_esl.conversion.config import Method
    from mmseg_esl.stages import Recipe, StPlusPlus, run_stages
    from mmseg_esl.stages.training import wrapped
    warnings.filterwarnings('ignore', category=UserWarning, module=r'(mmseg|mmengine)\.')
    try:
        data = Config.fromfile(config_file(args.config))
        data.merge_from_dict({**(args.cfg_options or {}), 'randomness.seed': args.seed})
        method = Method('supervised')
        cfg = wrapped(data, method.cfg, method.hooks)
        scales = dict(scales=tuple(args.scales)) if args.scales else {}
        recipe = Recipe(not args.st, args.snapshots, relabel_all=args.relabel_all, **scales)
        text = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
        identity = dict(asdict(recipe), config=hashlib.sha256(text.encode()).hexdigest()[:12],
                        seed=args.seed)
        work = StPlusPlus(cfg, args.work_dir, trainer(args.gpus), recipe,
                          'cuda' if torch.cuda.is_available() else 'cpu',
                          say)
        made = run_stages(args.work_dir, work.stages(), identity, work.say)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f'{program()}: {error}')
    print(f'the segmentor: {list(made.values())[-1][0]}')


if __name__ == '__main__':
    main()
