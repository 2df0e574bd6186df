"""How far a long loop is: a bar on a terminal, a line now and then in a file."""
from __future__ import annotations

import sys
import time
from typing import Callable, Iterable, Iterator

EVERY = 10.0  # seconds between two lines


class Lines:
    """Lines of a loop's progress, for where the output is no terminal.

    Args:
        what: is counted, such as 'masks'. total: how many there are; None: nobody knows.
        say: takes the lines; None: they go to stderr.
    """

    def __init__(self, what: str, total: int | None, say: Callable[[str], None] | None = None):
        self.what, self.total, self.done, self.said = what, total, 0, time.monotonic()
        self.say = say or (lambda line: print(line, file=sys.stderr, flush=True))

    def advance(self) -> None:
        """One more is done."""
        self.done += 1
        if time.monotonic() - self.said >= EVERY and self.done != self.total:
            self.said = time.monotonic()
            self.say(f'{self.what}: {self.done}' + (f' of {self.total}' if self.total else ''))


def track(items: Iterable, what: str, total: int, say: Callable[[str], None] | None = None
          ) -> Iterator:
    """The items, one after another; the arguments are those of Lines."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress
        with Progress(console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(items, total=total, description=what)
        return
    lines = Lines(what, total, say)
    for item in items:
        yield item
        lines.advance()
