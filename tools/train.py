"""Train a segmentor: ``python tools/train.py CONFIG``. Options are those of mmsegmentation."""

import argparse
import glob
import os.path as osp
import sys

from cli_common import add_common_options, load_config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmseg_esl import compat


def parse_args():
    parser = argparse.ArgumentParser(description='Train a segmentor.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the latest checkpoint in the work folder that is whole; '
                             'where there is none, start')
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


def use_resume(cfg, named: bool) -> None:
    """Go on from the work folder, as ``--resume`` asks, whatever the run began with.

    mmengine would resume from ``load_from`` instead. A config's is where the run began: it counts
    only while the work folder holds no checkpoint. One of the command line (``named``) is meant.
    """
    cfg.resume = True
    if named or not cfg.get('load_from'):
        return
    folder = glob.escape(cfg.work_dir)
    if glob.glob(osp.join(folder, '*.pth')) or glob.glob(osp.join(folder, 'last_checkpoint')):
        cfg.load_from = None
    else:
        cfg.resume = False


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
    cfg.resume = False
    if args.resume:
        use_resume(cfg, 'load_from' in (args.cfg_options or {}))
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    main()
