"""The main memory that a training takes, its loader workers included."""
from __future__ import annotations

import multiprocessing
import os
import re
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # no POSIX system
    resource = None

MB = 2 ** 20


def host_memory() -> float:
    """MB that this process and its children hold, pages that they share counted once.

    Where the system does not say that (macOS; Linux before 4.14), the most that this process alone
    has held so far; 0 where it does not say that either (Windows).
    """
    try:
        shares = [_share(pid) for pid in (
            os.getpid(), *(child.pid for child in multiprocessing.active_children()))]
    except OSError:
        if resource is None:
            return 0.0
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * (1 if sys.platform == 'darwin' else 1024) / MB
    return sum(shares) / MB


def _share(pid: int) -> int:
    """Bytes of a process's proportional set size; 0 if it has ended meanwhile."""
    try:
        text = Path(f'/proc/{pid}/smaps_rollup').read_text()
    except (FileNotFoundError, ProcessLookupError):
        if pid == os.getpid():
            raise
        return 0
    return 1024 * int(re.search(r'^Pss: +(\d+) kB', text, re.MULTILINE)[1])
