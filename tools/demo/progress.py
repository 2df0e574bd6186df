"""A progress bar for a training run of mmengine."""
from __future__ import annotations

from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressHook(Hook):
    """Iteration, loss, time so far and time left; keeps the last validation's metrics.

    Where output is no terminal (a pipe, a build log), a line at each tenth instead of a bar.
    """
    priority = 'VERY_LOW'

    def __init__(self, console: Console, title: str):
        self.console, self.title, self.metrics, self.loss = console, title, {}, None
        self.bar = Progress(
            TextColumn('{task.description}'), BarColumn(bar_width=30), MofNCompleteColumn(),
            TextColumn('loss {task.fields[loss]}'), TimeElapsedColumn(), TextColumn('left'),
            TimeRemainingColumn(), TextColumn('{task.fields[note]}'), console=console,
            disable=not console.is_terminal)

    def before_train(self, runner) -> None:
        self.total = runner.max_iters
        self.task = self.bar.add_task(self.title, total=self.total, loss='  -  ', note='')
        self.bar.start()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done = runner.iter + 1
        if done % 5 and done != self.total:
            return
        loss = float(outputs['loss'])
        self.loss = loss if self.loss is None else 0.8 * self.loss + 0.2 * loss
        self.bar.update(self.task, completed=done, loss=f'{self.loss:.3f}')
        tenth = done * 10 // self.total != (done - 5) * 10 // self.total
        if tenth and not self.console.is_terminal:
            self.console.print(f'{self.title} {done}/{self.total} loss {self.loss:.3f}')

    def before_val(self, runner) -> None:
        self.bar.update(self.task, note='testing')

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.metrics = dict(metrics or {})

    def close(self) -> None:
        """Leave the terminal in order, also after an error."""
        if getattr(self, 'task', None) is not None:
            self.bar.update(self.task, note='')
        self.bar.stop()
