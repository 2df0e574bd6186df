"""Progress of several trainings at once, of mmengine, each in a process of its own."""
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


class ReportHook(Hook):
    """Puts (title, done, total, loss) into a queue; keeps the last validation's metrics."""
    priority = 'VERY_LOW'

    def __init__(self, queue, title: str):
        self.queue, self.title, self.metrics, self.loss = queue, title, {}, None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done = runner.iter + 1
        if done % 5 and done != runner.max_iters:
            return
        loss = float(outputs['loss'])
        self.loss = loss if self.loss is None else 0.8 * self.loss + 0.2 * loss
        self.queue.put((self.title, done, runner.max_iters, self.loss))

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.metrics = dict(metrics or {})


class Board:
    """A bar for each training: iteration, loss, time so far and time left.

    Where output is no terminal (a pipe, a build log), a line at each tenth instead.
    """

    def __init__(self, console: Console):
        self.console, self.tasks, self.tenths = console, {}, {}
        self.bars = Progress(
            TextColumn('{task.description}'), BarColumn(bar_width=30), MofNCompleteColumn(),
            TextColumn('loss {task.fields[loss]}'), TimeElapsedColumn(), TextColumn('left'),
            TimeRemainingColumn(), console=console, disable=not console.is_terminal)

    def __enter__(self) -> Board:
        self.bars.start()
        return self

    def __exit__(self, *fault) -> None:  # leaves the terminal in order, also after an error
        self.bars.stop()

    def show(self, title: str, done: int, total: int, loss: float) -> None:
        if title not in self.tasks:
            self.tasks[title] = self.bars.add_task(title, total=total, loss='')
        self.bars.update(self.tasks[title], completed=done, loss=f'{loss:.3f}')
        tenth = done * 10 // total
        if tenth != self.tenths.get(title, 0) and not self.console.is_terminal:
            self.console.print(f'{title} {done}/{total} loss {loss:.3f}')
        self.tenths[title] = tenth
