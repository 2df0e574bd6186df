"""Files that are there completely or not at all; standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_PREFIX, _SUFFIX = '.', '.unfinished'


def temporary_of(path) -> Path:
    """Where the content of ``path`` is while it is being written: a hidden file beside it."""
    path = Path(path)
    return path.with_name(f'{_PREFIX}{path.name}{_SUFFIX}')


@contextlib.contextmanager
def atomic_file(path):
    """Open a binary file for writing that takes the name ``path`` only once it is on the disk.

    Content is written beside ``path``, flushed and synchronised, then renamed over it, and the
    folder synchronised as well: whenever the process or the machine dies, ``path`` is the old file
    or the new one. An exception leaves the old file and nothing else. One writer per path.

    Args:
        path: file to write; its folder is made if need be.

    Raises:
        OSError: what the file system says, such as a full disk.
    """
    path, temporary = Path(path), temporary_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Put a folder's new names on the disk, where the system can do that."""
    if os.name != 'posix':
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems know no such thing
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def remove_leftovers(folder) -> list:
    """Remove what killed writers left in a folder; returns the names of the files."""
    found = sorted(Path(folder).glob(f'{_PREFIX}*{_SUFFIX}'))
    for path in found:
        path.unlink()
    return [path.name for path in found]
