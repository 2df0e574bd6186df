"""Test a checkpoint: ``python tools/test.py CONFIG CKPT``. Options are those of mmsegmentation."""

import argparse
import sys

from cli_common import add_common_options, load_config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner


def parse_args():
    parser = argparse.ArgumentParser(description='Test (and evaluate) a segmentor.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: of the wrapper, or of a plain segmentor')
    parser.add_argument('--out', help='folder for the predicted label maps (PNG)')
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', help='folder for painted predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show waits')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_common_options(parser)
    return parser.parse_args()


def draw_predictions(cfg, args) -> None:
    """Let mmseg's visualisation hook paint every prediction, as --show and --show-dir ask."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        sys.exit("--show and --show-dir need default_hooks.visualization=dict("
                 "type='SegVisualizationHook') in the config, which has none")
    hook['draw'] = True
    if args.show:
        hook['show'] = True
        hook['wait_time'] = args.wait_time
    if args.show_dir:
        cfg.visualizer['save_dir'] = args.show_dir


def use_tta(cfg) -> None:
    """Wrap the model for test-time augmentation, as --tta asks."""
    for key in ('tta_pipeline', 'tta_model'):
        if key not in cfg:
            sys.exit(f'--tta needs {key} in the config, which has none (see the dataset configs of '
                     'mmsegmentation)')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model


def write_predictions(cfg, folder: str) -> None:
    """Let the metric (or each of several) write its predictions into a folder."""
    evaluators = cfg.test_evaluator
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        evaluator['output_dir'] = folder
        evaluator['keep_results'] = True


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    if args.tta:
        use_tta(cfg)
    if args.out is not None:
        write_predictions(cfg, args.out)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.test()


if __name__ == '__main__':
    main()
