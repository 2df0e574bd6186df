"""Means over the batch of all ranks, although each rank sees its own part only.

DistributedDataParallel averages gradients over the ranks. A rank that divides its sum by the *mean*
of all ranks' counts therefore contributes world * own sum / all counts, and the average is exactly
the sum of all over the count of all.
"""
from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch
from mmengine.dist import all_reduce, get_world_size
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn

from .losses import OHEMCrossEntropyLoss

EPS = torch.finfo(torch.float32).eps  # mmseg adds it to whatever it divides by


@torch.no_grad()
def mean_over_ranks(count: Tensor) -> Tensor:
    """Mean over the ranks of a count of any shape, as float64; at least 1 / world.

    A collective: every rank has to call it, whatever it has counted.
    """
    count = count.to(torch.float64, copy=True)
    all_reduce(count)
    return count.clamp(min=1) / get_world_size()


@contextmanager
def shared_divisors(segmentor: nn.Module, on: bool):
    """Let a segmentor's losses, within the block, be means over the pixels of all ranks.

    Known are mmseg's CrossEntropyLoss (softmax, reduction 'mean', no class_weight), with
    avg_non_ignore or without, and OHEMCrossEntropyLoss (each rank still keeps its own hardest
    pixels). Any other loss stays a mean over its rank's batch.
    """
    with ExitStack() as stack:
        for module in segmentor.modules() if on else ():
            if isinstance(module, OHEMCrossEntropyLoss):
                module.divisor = mean_over_ranks
                stack.callback(setattr, module, 'divisor', None)
            elif _is_plain(module):
                handle = module.register_forward_hook(_rescale, with_kwargs=True)
                stack.callback(handle.remove)
        yield


def _is_plain(module: nn.Module) -> bool:
    return (type(module) is CrossEntropyLoss and module.reduction == 'mean'
            and module.class_weight is None and not (module.use_sigmoid or module.use_mask))


@torch.no_grad()
def _factor(label: Tensor, ignore_index: int, non_ignore: bool) -> Tensor:
    count = (label != ignore_index).sum() if non_ignore else label.new_full((), label.numel())
    count = count.double()
    total = count.clone()
    all_reduce(total)
    return (count + EPS) * get_world_size() / (total + EPS)


def _rescale(module, args, kwargs, loss):
    """Turn sum / (own count + eps) into world * sum / (count of all + eps)."""
    if kwargs.get('avg_factor') is not None or kwargs.get('reduction_override'):
        return loss
    label = args[1] if len(args) > 1 else kwargs['label']
    return loss * _factor(label, kwargs.get('ignore_index', -100), module.avg_non_ignore)
