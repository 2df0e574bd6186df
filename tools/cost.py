"""What training a config costs: operations, hours and memory, as estimates. Trains nothing.

    python tools/cost.py configs/esl/esl_r50_*.py --tflops 30 --gpus 4

prints a Markdown table. Counted are the operations of convolutions and matrix products in one
forward of the network on a crop, F (two for a multiplication with its addition). A backward pass
costs two forwards, so each image costs 3 F where it trains a network and F where it is only looked
at; how often that is, for labelled and unlabelled images, encoder and decoder apart, the method
says (``passes``). 'GPU hours' divides by a rate that a GPU is assumed to keep up, --tflops.
Validation, data loading and communication are left out. Memory is the doctor's estimate for one of
--gpus, and a fifth.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cli_common  # noqa: F401  (finds the package, makes mmseg importable)
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

import mmseg_esl.register  # noqa: F401
from mmseg_esl.doctor.memory import GB, after_encoder, crop_size, measure, on_meta, trained_tap
from mmseg_esl.doctor.training import counts, method_of
from mmseg_esl.models.probe import in_channels

HEAD = ('config', 'iterations', 'GFLOP an image', 'TFLOP a step', 'EFLOP', 'GPU hours', 'GB a GPU')


def forward_flops(cfg) -> tuple[int, int]:
    """Operations of the encoder, and of the decoder with what reads its features, on one crop."""
    init_default_scope('mmseg')
    # in eval mode, where batch norm after global pooling takes a single image
    model = on_meta(cfg.model).eval()
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        with after_encoder(model.main, counter.get_total_flops) as between:
            image = torch.empty(1, in_channels(model.main), *crop_size(cfg))
            model.see(next(iter(model.roles)), image, tap=trained_tap(model))
        return between[0], counter.get_total_flops() - between[0]


def passes_per_step(cfg) -> tuple[float, float]:
    """Forwards of encoder and decoder that a step costs, for all images on all GPUs.

    Raises:
        ValueError: the model is a plain segmentor.
    """
    cls, semi = method_of(cfg)
    if cls is None:
        raise ValueError(f"model.type '{cfg.model.type}' is no method: its step is not known")
    each, passes = counts(cfg, 1), cls.passes(semi)
    return tuple(sum(number * passes[kind][part] for number, kind in zip(each, ('labeled',
                                                                               'unlabeled')))
                 for part in (0, 1))


def row(path: str, tflops: float, gpus: int) -> tuple:
    """The cells of one config, in the order of HEAD."""
    cfg = Config.fromfile(path)
    passes = passes_per_step(cfg)  # which names what is no method
    flops, iters = forward_flops(cfg), cfg.train_cfg.max_iters
    step = sum(one * times for one, times in zip(flops, passes))
    return (Path(path).name, iters, round(sum(flops) / 1e9), f'{step / 1e12:.1f}',
            f'{step * iters / 1e18:.2f}', round(step * iters / (tflops * 1e12) / 3600),
            f'{1.2 * measure(cfg, gpus).step / GB:.0f}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--tflops', type=float, default=30.0,
                        help='rate of one GPU that is assumed, in 10^12 operations a second')
    parser.add_argument('--gpus', type=int, default=4, help='that share a batch (for the memory)')
    args = parser.parse_args()
    print('| ' + ' | '.join(HEAD) + ' |\n|---' + '|--:' * (len(HEAD) - 1) + '|')
    for path in args.configs:
        try:
            cells = row(path, args.tflops, args.gpus)
        except (ValueError, OSError, RuntimeError, KeyError, AttributeError) as error:
            sys.exit(f'cost.py: {path}: {type(error).__name__}: {error}')
        print('| ' + ' | '.join(map(str, cells)) + ' |', flush=True)


if __name__ == '__main__':
    main()
