"""Train a segmentor: ``python tools/train.py CONFIG``. Options are those of mmsegmentation."""

import argparse
import sys

from cli_common import add_common_options, load_config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmseg_esl import compat


def parse_args():
    parser = argparse.ArgumentParser(description='Train a segmentor.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the latest checkpoint in the work folder')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    add_common_options(parser)
    return parser.parse_args()


def use_amp(cfg) -> None:
    """Switch mixed precision on, as ``--amp`` asks."""
    optim = cfg.optim_wrapper
    if optim.type == 'AmpOptimWrapper':
        return
    if optim.type != 'OptimWrapper':
        sys.exit(f"--amp works with optim_wrapper.type='OptimWrapper', and the config has "
                 f"'{optim.type}': leave --amp out or change the config")
    optim.type = 'AmpOptimWrapper'
    optim.setdefault('loss_scale', 'dynamic')


def main() -> None:
    args = parse_args()
    if args.amp:
        try:
            compat.refuse_amp_on_cpu()
        except RuntimeError as error:
            sys.exit(str(error))
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg)
    cfg.resume = args.resume
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    main()
