"""Running a network: for a while in another mode, and with words for what torch says of it."""
from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def running(net: nn.Module, mode: str | None = None, statistics: bool = True) -> Iterator[None]:
    """Run a network, within the block, in a mode of its own.

    Args:
        mode: 'train', 'eval' or None (as it is); every module gets its own mode back.
        statistics: False: batch norm in training mode normalises by the batch, and its running
            statistics stay as they are.
    """
    modes = [(m, m.training) for m in net.modules()] if mode else ()
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats] \
        if not statistics else ()
    try:
        if mode:
            net.train(mode == 'train')
        for norm in norms:
            norm.track_running_stats = not norm.training
        yield
    finally:
        for module, training in modes:
            module.training = training
        for norm in norms:
            norm.track_running_stats = True
        if not torch.is_grad_enabled():
            # up to torch 2.9 autocast goes on with the weights that it has cast here, and a later
            # pass in the same step gives them no gradient
            torch.clear_autocast_cache()


@contextmanager
def alone_explained() -> Iterator[None]:
    """Say what to do where torch only says that batch norm met a single value."""
    try:
        yield
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        raise ValueError(
            'an image was alone in a training forward, where batch norm after global pooling has '
            'nothing to normalise by: set num_labeled and num_unlabeled of train_dataloader.'
            'batch_sampler to at least 2, train on several GPUs with SyncBN, or use a head without '
            'such a layer') from error
