"""Train a segmentor: ``python tools/train.py CONFIG``. Options are mmsegmentation's and more."""

import argparse
import glob
import os
import os.path as osp
import sys

from cli_common import add_common_options, checkpoint_errors, load_config, ready

from mmseg_esl import stack


def parse_args():
    parser = argparse.ArgumentParser(description='Train a segmentor.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the latest checkpoint in the work folder that is whole; '
                             'where there is none, start')
    parser.add_argument('--amp', nargs='?', const='auto', choices=['auto', 'bf16', 'fp16'],
                        help='train in mixed precision; without a value bf16 where the GPU has it, '
                             'else fp16')
    parser.add_argument('--compile', action='store_true',
                        help='compile the networks (torch.compile); the first iterations are slow')
    parser.add_argument('--channels-last', action='store_true',
                        help='keep the networks in channels-last memory format')
    parser.add_argument('--profile', type=int, metavar='N',
                        help='profile N iterations after a few others, write trace and table to '
                             "the run's log folder, and stop")
    add_common_options(parser)
    return parser.parse_args()


def use_amp(cfg, precision: str) -> None:
    """Switch mixed precision on, as ``--amp`` asks.

    Args:
        precision: 'bf16', which needs no loss scaling; 'fp16', which has a dynamic one; 'auto'
            keeps an AmpOptimWrapper of the config as it is, else takes what the GPU has.
    """
    optim = cfg.optim_wrapper
    if optim.type not in ('OptimWrapper', 'AmpOptimWrapper'):
        sys.exit(f"--amp works with optim_wrapper.type='OptimWrapper', and the config has "
                 f"'{optim.type}': leave --amp out or change the config")
    if precision == 'auto':
        if optim.type == 'AmpOptimWrapper':
            return
        precision = 'bf16' if has_bfloat16() else 'fp16'
    optim.type = 'AmpOptimWrapper'
    if precision == 'bf16':
        optim.update(dtype='bfloat16', loss_scale=dict(enabled=False))
        return
    # float16 is what the wrapper takes by itself, and what runs of earlier versions have not set
    if optim.get('dtype') != 'float16':
        optim.pop('dtype', None)
    if isinstance(optim.get('loss_scale'), dict) and not optim.loss_scale.get('enabled', True):
        del optim['loss_scale']  # of bfloat16
    optim.setdefault('loss_scale', 'dynamic')


def has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 itself: torch also counts emulation."""
    import torch
    if not torch.cuda.is_available():
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 0)


def add_hook(cfg, **hook) -> None:
    """Add a hook of this package to the config, in place of one of its type."""
    import mmseg_esl.register  # noqa: F401  (a supervised config need not name it)

    hooks = cfg.get('custom_hooks') or []
    same = [h for h in hooks if isinstance(h, dict) and h.get('type') == hook['type']]
    cfg.custom_hooks = [h for h in hooks if h not in same] + [hook]


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
    ready()
    from mmengine.registry import RUNNERS

    from mmseg_esl.engine.hooks.best_network_hook import BestNetworkHook
    from mmseg_esl.engine.hooks.time_left_hook import TimeLeftHook
    from mmseg_esl.engine.screen import ScreenRunner
    from mmseg_esl.storage.lock import FolderLock
    if args.amp:
        try:
            stack.refuse_amp_on_cpu()
        except RuntimeError as error:
            sys.exit(str(error))
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg, args.amp)
    if args.compile:
        add_hook(cfg, type='CompileHook')
    if args.channels_last:
        add_hook(cfg, type='ChannelsLastHook')
    if args.profile is not None:
        add_hook(cfg, type='StepProfilerHook', iters=args.profile)
    cfg.resume = False
    if args.resume:
        use_resume(cfg, 'load_from' in (args.cfg_options or {}))
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        with checkpoint_errors():  # before the Runner writes its config over the other one's
            FolderLock(cfg.work_dir).check()
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else ScreenRunner.from_cfg(cfg)
    for hook in (TimeLeftHook(), BestNetworkHook()):
        runner.register_hook(hook)
    with checkpoint_errors():
        runner.train()


if __name__ == '__main__':
    main()
