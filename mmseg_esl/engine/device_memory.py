"""Words for a GPU that has too little memory: what to change, by the names of the keys."""
from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import torch

from ..commands import command

STEP = ('set train_dataloader.batch_size to a smaller number, and batch_sampler.num_labeled and '
        'num_unlabeled (or total_labeled, total_unlabeled) with it, train with --amp, or on '
        f'smaller crops (crop_size); {command("doctor")} CONFIG estimates what a step takes')
VALIDATION = ('set val_dataloader.batch_size=1, or let the network see windows of an image: '
              "test_cfg=dict(mode='slide', crop_size=..., stride=...) of the segmentor")


@contextmanager
def memory_explained(doing: str, remedy: str) -> Iterator[None]:
    """Add to torch's error what was done and what helps.

    Args:
        doing: what the memory was too small for. remedy: what to do about it.

    Raises:
        torch.cuda.OutOfMemoryError: as within the block, in these words and torch's first line.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        first = (str(error).strip().splitlines() or ['out of memory'])[0]
        raise torch.cuda.OutOfMemoryError(
            f"the GPU's memory is too small for {doing}: {remedy}. ({first})") from error
