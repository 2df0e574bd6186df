"""Hand the model's diagnostics to mmengine's logger and visualiser at log time."""
from __future__ import annotations

from mmengine.hooks import Hook, LoggerHook
from mmseg.registry import HOOKS

from .teacher_hook import unwrap


@HOOKS.register_module()
class DiagnosticsHook(Hook):
    """Log shares of dominant classes, confidence, anchors and parts used.

    Values are gathered on the device by the model and read once per log interval, the only wait
    for the device. Per-class vectors go to the visualiser's backends (TensorBoard, W&B, JSON);
    the text log shows their means. Rank 0's share of the batch is what is shown.

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

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        per_class = {}
        for name, value in unwrap(runner.model).diagnostics.pop().items():
            if isinstance(value, list):
                names = self._classes or range(len(value))
                per_class.update({f'{name}/{c}': v for c, v in zip(names, value)})
                value = sum(value) / len(value)
            runner.message_hub.update_scalar(f'train/{name}', value)
        if per_class:
            runner.visualizer.add_scalars(per_class, step=runner.iter + 1)
