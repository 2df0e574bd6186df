"""Files that are there completely or not at all; standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None

_PREFIX, _SUFFIX = '.', '.unfinished'
_LONGEST = 255  # bytes of a file's name, on all usual file systems


def temporary_of(path, of: str = '') -> Path:
    """Where the content of ``path`` is while it is being written: a hidden file beside it.

    Its name is that of the file or, where there is no room for more, the file's digest.
    """
    path = Path(path)
    name = os.fsencode(path.name)
    if len(name) + len(f'{_PREFIX}{of}{_SUFFIX}') > _LONGEST:
        return path.with_name(f'{_PREFIX}{hashlib.sha256(name).hexdigest()}{of}{_SUFFIX}')
    return path.with_name(f'{_PREFIX}{path.name}{of}{_SUFFIX}')


@contextlib.contextmanager
def atomic_file(path):
    """Open a binary file for writing that takes the name ``path`` only once it is on the disk.

    Content is written beside ``path``, flushed and synchronised, then renamed over it, and the
    folder synchronised as well: whenever the process or the machine dies, ``path`` is the old file
    or the new one. An exception leaves the old file and nothing else. Of several writers of one
    path each has a file of its own, and the last one to end is ``path``.

    Args:
        path: file to write; its folder is made if need be.

    Raises:
        OSError: what the file system says, such as a full disk.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, file = _open(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)  # still locked: nobody else takes it for a leftover
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _open(path: Path) -> tuple:
    """(temporary file's path, the open file), which no other writer has.

    The plain name, which a killed writer may have left; where another one is writing there, a name
    of its own.
    """
    for of in ('', f'.{os.getpid()}-{secrets.token_hex(4)}'):
        temporary = temporary_of(path, of)
        # not emptied before it is known to be free; positional, since this may be looked at
        file = open(temporary, 'wb', -1, None, None, None, True, _without_emptying)
        if _is_free(file.fileno(), temporary) or of:
            os.ftruncate(file.fileno(), 0)
            return temporary, file
        with contextlib.suppress(OSError):
            file.close()
    raise AssertionError  # the second name is nobody else's


def _without_emptying(path, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


def _is_free(handle: int, path: Path) -> bool:
    """Lock an open file, and tell whether it is nobody's and still has its name."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:  # another writer's; renamed meanwhile; a file system without locks
        return False


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
    found = [path for path in sorted(Path(folder).glob(f'{_PREFIX}*{_SUFFIX}')) if _is_left(path)]
    for path in found:
        path.unlink()
    return [path.name for path in found]


def _is_left(path: Path) -> bool:
    """Whether nobody is writing that file, as far as the system can tell."""
    if fcntl is None or not path.is_file():
        return path.is_file()
    with open(path, 'rb') as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True
