"""Test a checkpoint: ``python tools/test.py CONFIG CKPT``. Options are those of mmsegmentation."""

from __future__ import annotations

import argparse
import sys

from cli_common import (
    add_common_options,
    checkpoint_errors,
    load_config,
    program,
    ready,
    train_nothing,
)

from mmseg_esl.storage.config import kind


def parse_args():
    parser = argparse.ArgumentParser(description='Test (and evaluate) a segmentor.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: of a method, or of a plain segmentor')
    parser.add_argument('--network', metavar='NAME',
                        help="which of a method's networks, such as student (default: as the "
                             'config says)')
    parser.add_argument('--out', help='folder for the predicted label maps (PNG)')
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', help='folder for painted predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show waits')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_common_options(parser)
    return parser.parse_args()


def choose_network(cfg, name: str | None) -> list:
    """Let the model predict with a network, as --network asks; returns the hooks that it needs."""
    from mmseg.registry import MODELS

    from mmseg_esl.engine.hooks.testing import OneNetwork
    if 'segmentor' not in cfg.model:
        return [OneNetwork(name, plain=True)]
    if name is None:
        return []
    method = MODELS.get(cfg.model.type) if isinstance(cfg.model.type, str) else cfg.model.type
    roles = method.roles_of(method.parse_cfg(cfg.model.get('semi_train_cfg')))
    there = [each for each, role in roles.items() if role.plain]
    if name not in there:
        sys.exit(f"{program()}: a {method.__name__} has no network '{name}': choose "
                 f"{' or '.join(there)} (--network)")
    cfg.model.semi_test_cfg = dict(cfg.model.get('semi_test_cfg') or {}, predict_on=name)
    return [OneNetwork(name, plain=False)]


def draw_predictions(cfg, args) -> None:
    """Let mmseg's visualisation hook paint every image, as --show and --show-dir ask."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        sys.exit("--show and --show-dir need default_hooks.visualization=dict("
                 "type='SegVisualizationHook') in the config, which has none")
    hook.update(draw=True, interval=1)
    if args.show:
        hook['show'] = True
        hook['wait_time'] = args.wait_time
    if args.show_dir:
        backends = cfg.setdefault('visualizer', dict(type='SegLocalVisualizer')).get('vis_backends')
        if not any(kind(one) == 'LocalVisBackend' for one in backends or ()):
            cfg.visualizer['vis_backends'] = [*(backends or ()), dict(type='LocalVisBackend')]
        cfg.visualizer['save_dir'] = args.show_dir
        cfg.visualizer['name'] = args.show_dir  # a process keeps the first of each name


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
    ready()
    train_nothing()
    from mmengine.registry import RUNNERS

    from mmseg_esl.engine.hooks.testing import Finite, NamesOnce, Untestable
    from mmseg_esl.engine.screen import ScreenRunner
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    hooks = choose_network(cfg, args.network)
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    if args.tta:
        use_tta(cfg)
    if args.out is not None:
        write_predictions(cfg, args.out)
    hooks.append(Finite())
    if args.out or args.show_dir:
        hooks.append(NamesOnce())
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else ScreenRunner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    try:
        with checkpoint_errors():
            runner.test()
    except Untestable as error:
        sys.exit(f'{program()}: {error}')


if __name__ == '__main__':
    main()
