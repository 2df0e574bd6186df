"""Hand losses and diagnostics to mmengine's logger and visualiser at log time."""
from __future__ import annotations

from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook
from mmseg.registry import HOOKS

from ..host_memory import host_memory
from ..metric_names import legal, per_class
from ..unwrap import unwrap


@HOOKS.register_module()
class DiagnosticsHook(Hook):
    """Log the loss terms, shares of dominant classes, confidence, anchors and parts used.

    Values stay on the device and are read once per log interval, those of steps that the optimiser
    has taken: a refused step leaves nothing here, either. mmengine's RuntimeInfoHook, which
    would read each loss term in every step, is relieved of that; the log shows the same (losses
    smoothed over its window of steps). Per-class vectors go to the visualiser's backends
    (TensorBoard, W&B, MLflow, JSON) as ``class/<figure>/<class>``; the text log shows their means.
    Names are such that every backend can hold them. Rank 0's share of the batch is what is shown.
    ``host_memory`` is the main memory that its process and loader workers hold, in MB; mmengine
    itself logs ``memory``, of the GPU.

    Args:
        interval: iterations between reads; None takes LoggerHook's.
    """
    priority = 'NORMAL'  # before LoggerHook (BELOW_NORMAL), which prints

    def __init__(self, interval: int | None = None):
        self.interval = interval

    def before_train(self, runner) -> None:
        if self.interval is None:
            intervals = [h.interval for h in runner.hooks if isinstance(h, LoggerHook)]
            self.interval = intervals[0] if intervals else 50
        self._classes = runner.train_dataloader.dataset.metainfo.get('classes')
        self._relieved = [hook for hook in runner.hooks if isinstance(hook, RuntimeInfoHook)]
        for hook in self._relieved:
            hook.after_train_iter = _nothing
        unwrap(runner.model).diagnostics.staging = True

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval) or self._ends_a_short_pass(
                runner, batch_idx):
            self._log(runner)

    def after_train(self, runner) -> None:
        self._log(runner)
        unwrap(runner.model).diagnostics.staging = False
        for hook in self._relieved:
            del hook.after_train_iter

    def _ends_a_short_pass(self, runner, batch_idx) -> bool:
        """LoggerHook prints there too: without losses, if they had not been read."""
        return (len(runner.train_dataloader) <= self.interval
                and self.end_of_epoch(runner.train_dataloader, batch_idx))

    def _log(self, runner) -> None:
        for terms in unwrap(runner.model).diagnostics.pop_steps():
            for name, value in terms.items():
                runner.message_hub.update_scalar(f'train/{name}', value)
        runner.message_hub.update_scalar('train/host_memory', host_memory())
        classes = {}
        for name, value in unwrap(runner.model).diagnostics.pop().items():
            if isinstance(value, list):
                names = per_class(name, self._classes or range(len(value)))
                classes.update(zip(names, value))
                value = sum(value) / len(value)
            runner.message_hub.update_scalar(f'train/{legal(name)}', value)
        if classes:
            runner.visualizer.add_scalars(classes, step=runner.iter + 1)


def _nothing(*args, **kwargs) -> None:
    """In place of a method that has nothing to do any more."""
