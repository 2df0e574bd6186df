"""Until when a ladder's trainings go on."""
from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from typing import Callable

from ..processes import answered, ending_with_us

GRACE = 120  # seconds in which a run that was asked to stop saves
POLL = 0.2  # seconds between two looks at whether a run has ended, or has to
# a terminal that is closed sends the last (Windows has none), to us alone: runs have their session
SIGNALS = ('SIGINT', 'SIGTERM', 'SIGHUP')


def never() -> bool:
    return False


def run_until(over: Callable[[], bool], command: list[str], log) -> int | None:
    """Exit code of a command; None if it was over before its end, or its beginning.

    It is then sent SIGTERM, on which tools/train.py saves; likewise if this process is killed. It
    has a session of its own: Ctrl-C would reach it too, and a second signal ends a training at
    once.
    """
    if over():
        return None
    process = subprocess.Popen(ending_with_us(command), stdout=log, stderr=subprocess.STDOUT,
                               start_new_session=True)
    while not over():
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            pass
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return None


class Limit:
    """Until when runs go on: so many minutes, or to a first of SIGNALS within the block.

    One that was ignored before, as by nohup or in the background, stays so.
    """

    def __init__(self, minutes: float = float('inf')):
        self.end, self.signal = time.monotonic() + 60 * minutes, 0

    def over(self) -> bool:
        return bool(self.signal) or time.monotonic() >= self.end

    def __enter__(self) -> Limit:
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        self._signals = answered(numbers, self._note)
        self._signals.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._signals.__exit__(*error)

    def _note(self, number, frame) -> None:
        self.signal = number
        with contextlib.suppress(OSError, RuntimeError):  # no terminal any more; in another print
            print(f'{signal.Signals(number).name}: the runs finish their iteration and save',
                  flush=True)
