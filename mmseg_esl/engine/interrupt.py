"""Ctrl-C and SIGTERM as a wish that all ranks fulfil together, after the iteration."""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time

import torch
from torch import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO = 2.0  # seconds; older torchrun passes a Ctrl-C on that the terminal has sent as well


class Interrupt:
    """Notes that the process was asked to stop; the second time it stops at once."""

    def __init__(self):
        self.number = 0  # of the signal
        self._previous, self._group = {}, None

    def listen(self) -> None:
        """Take the signals over; on all ranks. Elsewhere than in the main thread: does nothing."""
        if distributed.is_available() and distributed.is_initialized():
            if distributed.get_backend() not in ('gloo', 'mpi'):
                # asked on the CPU, so that no step waits for the device
                self._group = distributed.new_group(backend='gloo')
        self._process = os.getpid()
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks
                self._previous[number] = signal.signal(number, self._note)

    def release(self) -> None:
        """Give the signals back to who had them."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _note(self, number, frame) -> None:
        if os.getpid() != self._process:
            return  # a loader worker: it stops when its parent does
        if not self.number:
            self.number, self._since = number, time.monotonic()
            # not by the logger, in the midst of whose writing this may come
            os.write(2, f'\n{signal.Signals(number).name}: finishing this iteration, then saving; '
                     'once more stops at once\n'.encode())
        elif time.monotonic() - self._since > _ECHO:
            self.release()
            os.kill(os.getpid(), number)

    def asked(self) -> int:
        """The signal that any rank received, or 0; all ranks call it and get the same answer."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self.number
        number = torch.tensor([self.number])
        distributed.all_reduce(number, distributed.ReduceOp.MAX, group=self._group)
        return int(number)


def shield_workers() -> None:
    """Keep signals to the process group (Ctrl-C, torchrun) from the loader's workers.

    Without workers the iteration that is to be finished would fail. They end with their parent.
    """
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):  # gone already, or not started by a plain fork
            os.setpgid(child.pid, child.pid)
