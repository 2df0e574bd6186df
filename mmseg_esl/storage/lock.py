"""One training in one folder: a file that names the host and the process; standard library only."""
from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path

NAME = '.training'
BEAT, WAIT = 5.0, 30.0  # seconds: how often a process says that it lives; how long another waits


class Locked(RuntimeError):
    """Another process trains in the folder; the message names it."""


def _started(pid: int) -> str:
    """When a process of this host began, so that a number used again is told apart; '' unknown."""
    try:
        said = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
        return 'ended' if said[0] in 'ZX' else said[19]  # nobody has asked yet how it ended
    except (OSError, IndexError):
        return ''


def _read(path: Path) -> dict | None:
    """What a lock says; None if there is none; {} if its writer died while writing."""
    try:
        found = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None if not path.exists() else {}
    return found if isinstance(found, dict) or found is None else {}


def _lives(path: Path, holder: dict, wait: float) -> bool:
    """Whether the holder of a lock is alive.

    One of this host is looked up; one of another host lives if it touches its lock while we wait.
    """
    pid = holder.get('pid')
    if type(pid) is not int or pid < 1:
        return False
    if holder.get('host') == socket.gethostname():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # another user's
            pass
        return holder.get('started') in ('', _started(pid))
    try:
        before, end = _touched(path), time.monotonic() + wait
        while time.monotonic() < end:
            time.sleep(min(1.0, wait / 4))
            if _touched(path) != before:
                return True
    except OSError:  # given back meanwhile
        pass
    return False


def _touched(path: Path) -> int:
    with open(path, 'rb') as file:  # a network file system looks again when it opens a file
        return os.fstat(file.fileno()).st_mtime_ns


class FolderLock:
    """Held from :meth:`take` to :meth:`give_back`, or to the death of the process.

    A lock of a dead process blocks nobody: on this host the process is looked up; another host's
    lives as long as it touches its file, every ``BEAT`` seconds, for which ``WAIT`` seconds are
    waited. The process that holds the lock may take it again.

    Args:
        folder: the work folder, which must be there.
    """

    def __init__(self, folder):
        self.path = Path(folder) / NAME
        self.content = dict(host=socket.gethostname(), pid=os.getpid(),
                            started=_started(os.getpid()), token=secrets.token_hex(8))
        self._ended = threading.Event()

    def check(self, wait: float = WAIT) -> None:
        """Refuse a folder in which another process trains.

        Raises:
            Locked: host and process are named.
        """
        holder = _read(self.path)
        mine = holder is not None and all(holder.get(key) == self.content[key]
                                          for key in ('host', 'pid', 'started'))
        if holder and not mine and _lives(self.path, holder, wait):
            raise Locked(
                f"{self.path.parent}: process {holder.get('pid')} on {holder.get('host')} trains "
                'here already, and two would overwrite each other. End it, or give another '
                f'--work-dir. (If it is no training, remove {self.path})')

    def take(self, wait: float = WAIT) -> None:
        """Hold the folder.

        Raises:
            Locked: as :meth:`check`. OSError: the file system refuses.
        """
        self.check(wait)
        draft = self.path.with_name(f'{NAME}.{self.content["token"]}')
        draft.write_text(json.dumps(self.content), encoding='utf-8')
        try:
            os.link(draft, self.path)  # of two that find none, one succeeds
            draft.unlink()
        except OSError:  # one is there, or the file system has no links
            self.check(wait)
            os.replace(draft, self.path)
            time.sleep(0.2)  # of two that found a dead one's lock, the last is the holder
        finally:
            if draft.exists():
                draft.unlink()
        self.check(wait)
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                os.utime(self.path)
            except OSError:
                return

    def give_back(self) -> None:
        """Let others train here."""
        self._ended.set()
        holder = _read(self.path)
        if holder is not None and holder.get('token') == self.content['token']:
            self.path.unlink()
