"""Processes that end with the one that started them, however it ends; and its signals."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Callable, Iterable

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@contextlib.contextmanager
def answered(numbers: Iterable[int], answer: Callable):
    """Let ``answer(number, frame)`` take signals within the block; in the main thread alone.

    One that was ignored before, as by nohup or in the background, stays so.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, answer) for number in numbers
                  if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending_with_us(command: Iterable) -> list[str]:
    """The same command, sent SIGTERM when the thread that starts it is gone, were it killed.

    That thread has to wait for it, and ends it by SIGTERM, if at all. On Windows: the command as it
    is.

    Args:
        command: words, such as paths; the first one is a program.
    """
    words = [str(word) for word in command]
    if os.name != 'posix':
        return words
    # by a small process: code between fork and exec (preexec_fn) may hang where there are threads
    return [sys.executable, '-IS', __file__, str(os.getpid()), *words]


def _become(parent: int, command: list[str]) -> None:
    """Linux: the kernel is asked for the signal, then this process turns into the command."""
    with contextlib.suppress(ImportError, OSError, AttributeError):  # a Python without ctypes
        import ctypes
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:  # gone already
        sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)


def _accompany(parent: int, command: list[str]) -> int:
    """Elsewhere: this process stays, watches and passes SIGTERM on; returns the exit status."""
    child = None

    def end(*_):
        if child is not None:
            child.terminate()
        else:
            sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal's reaches the command, too
    if os.getppid() != parent:  # gone already
        end()
    child = subprocess.Popen(command)
    while child.poll() is None:
        if os.getppid() != parent:
            end()
            parent = os.getppid()  # once
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
    return 128 - child.returncode if child.returncode < 0 else child.returncode


def end_with_parent() -> None:
    """In a process of multiprocessing: leave when the one that started it is gone.

    A Ctrl-C reaches both; what started this one answers it, and ends it.
    """
    import multiprocessing
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ended_with_us():
    """Kill the processes of multiprocessing if the block does not come to its end.

    Ctrl-C and SIGTERM end it, and the program, with 128 and the signal's number.
    """
    import multiprocessing

    def leave(number, frame):
        sys.exit(128 + number)

    with answered((signal.SIGINT, signal.SIGTERM), leave):
        try:
            yield
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            raise


if __name__ == '__main__':
    begin = _become if sys.platform == 'linux' else _accompany
    sys.exit(begin(int(sys.argv[1]), sys.argv[2:]))
