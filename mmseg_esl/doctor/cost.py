"""Operations of a step, from the forwards that the method says it takes; for ``tools/cost.py``."""
from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from ..models.probe import in_channels
from .memory import GB, after_encoder, crop_size, measure, on_meta, trained_tap
from .method import method_of
from .training import counts

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
