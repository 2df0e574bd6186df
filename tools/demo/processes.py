"""Training processes that end with the demo, however it ends."""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading


def end_with_parent() -> None:
    """In a process that was started: leave when the one that started it is gone, were it killed.

    A Ctrl-C reaches both; what started this one answers it, and ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ended_with_us():
    """Kill the processes that this one has started if the block does not come to its end.

    Ctrl-C and SIGTERM end it, and the program, with 128 and the signal's number.
    """
    def leave(number, frame):
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)
              if signal.getsignal(number) is not signal.SIG_IGN}  # as in the background
    try:
        yield
    except BaseException:
        for child in multiprocessing.active_children():
            child.kill()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
