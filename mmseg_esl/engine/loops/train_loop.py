"""Train by iterations, and begin anywhere without replaying what lies before."""
from __future__ import annotations

from typing import Iterator

from mmengine.runner import IterBasedTrainLoop
from mmseg.registry import LOOPS

from ..device_memory import STEP, memory_explained
from ..unwrap import unwrap
from .waiting import batches


@LOOPS.register_module()
class SemiTrainLoop(IterBasedTrainLoop):
    """mmengine's IterBasedTrainLoop, but a resumed run reads no image that it has seen already.

    mmengine's loop loads and throws away every batch before the iteration it resumes from. Here the
    batch sampler starts at that iteration, and loader workers start with the first batch. If the
    checkpoint was saved just before a validation that was due, that validation comes first.

    Args:
        runner, dataloader, max_iters, val_begin, val_interval, dynamic_intervals: as mmengine's.

    Raises:
        torch.cuda.OutOfMemoryError: of a step, with what to change.
        TypeError: the batch sampler cannot start anywhere, as SemiBatchSampler can.
    """

    def __init__(self, runner, dataloader, max_iters: int, **kwargs):
        if isinstance(dataloader, dict):  # as BaseLoop would
            dataloader = runner.build_dataloader(
                dataloader, seed=runner.seed,
                diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False))
        if not hasattr(dataloader.batch_sampler, 'set_start'):
            raise TypeError(
                f"SemiTrainLoop: a {type(dataloader.batch_sampler).__name__} cannot start in the "
                "middle. Set train_dataloader.batch_sampler=dict(type='SemiBatchSampler', ...), "
                "or train_cfg.type='IterBasedTrainLoop', which loads all skipped batches again")
        model, values = unwrap(runner.model), getattr(dataloader.dataset, 'label_values', None)
        if values is not None and hasattr(model, 'ignore_index'):
            values.ignore_index = model.ignore_index  # no worker has begun
        super().__init__(runner, _Later(dataloader), max_iters, **kwargs)
        self.dataloader = dataloader
        self.validate_first = False  # set by RunStateHook

    def run(self):
        """Train from the current iteration to the last one."""
        if self._iter >= self._max_iters:
            self.runner.logger.warning(
                f'this run has ended: {self._iter} of {self._max_iters} iterations are done. Raise '
                'train_cfg.max_iters to go on')
        self.runner.call_hook('before_train')
        # the whole training counts as one epoch, as in mmengine's loop
        self.runner.call_hook('before_train_epoch')
        self.dataloader.batch_sampler.set_start(self._iter)
        if self.validate_first:
            self._validate_if_due()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            batch = next(self.dataloader_iterator)
            with memory_explained(f"a step of {len(batch['inputs'])} images", STEP):
                self.run_iter(batch)
            self._validate_if_due()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and due:
            self.runner.val_loop.run()


class _Later:
    """A dataloader whose iterator, which mmengine makes too early, does nothing until it is used.

    A loader with workers begins to read as soon as it is asked for an iterator.
    """

    def __init__(self, loader):
        self.loader, self.dataset = loader, loader.dataset

    def __iter__(self) -> Iterator:
        yield from batches(self.loader)
