"""Checksums of a data set's files, in the format of ``sha256sum``.

One line a file, ``<64 hex digits>  <path>``, the path relative to the folder of the manifest, so
that a data set can be moved and ``cd FOLDER && sha256sum -c MANIFEST`` checks it too.
"""

from __future__ import annotations

import hashlib
import os
import os.path as osp
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Iterable, Iterator

from ..commands import command
from .files import is_local

_LINE = re.compile(r'([0-9a-fA-F]{64}) [ *](.+)')


def digest(data: bytes) -> str:
    """SHA-256 of some bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: str) -> str:
    """SHA-256 of a local file, read in pieces; raises OSError."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        for piece in iter(lambda: file.read(1 << 20), b''):
            found.update(piece)
    return found.hexdigest()


def write_manifest(manifest: str, paths: Iterable[str], progress=iter) -> int:
    """Write the checksums of local files; the manifest appears completely or not at all.

    Args:
        manifest: the file to write.
        paths: the files; repeated ones are written once, all are sorted by name.
        progress: wraps the iterator over the results, for a progress bar.

    Returns:
        The number of files written.

    Raises:
        OSError: a file cannot be read. ValueError: a name with a line break or a backslash, which
            this format would have to escape.
    """
    folder = osp.dirname(osp.abspath(manifest))
    names = {_relative(path, folder): path for path in paths}
    for name in names:
        if '\n' in name or '\r' in name or '\\' in name:
            raise ValueError(f'manifest: {name!r} has a line break or a backslash: rename it')
    order = sorted(names)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix='.manifest-')
    try:
        with open(handle, 'w', encoding='utf-8', errors='surrogateescape') as file, \
                ThreadPoolExecutor() as pool:
            found = pool.map(file_digest, (names[name] for name in order))
            file.writelines(f'{hexes}  {name}\n' for hexes, name in zip(progress(found), order))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it readable by its owner only
        os.replace(temporary, manifest)
    except BaseException:
        os.unlink(temporary)
        raise
    return len(order)


class Manifest:
    """The checksums of a manifest file.

    Raises:
        FileNotFoundError: there is no such file. ValueError: a line of another format, or nothing
            in the file.
    """

    def __init__(self, path: str) -> None:
        if not osp.isfile(path):
            raise FileNotFoundError(
                f"manifest '{path}' does not exist. Write it with "
                f"'{command('doctor')} CONFIG --write-manifest {path}', or remove the key "
                'manifest')
        self.path, self.folder = path, osp.dirname(osp.abspath(path))
        self.digests = dict(self._entries())
        if not self.digests:
            raise ValueError(f"manifest '{path}' is empty. Write it again")

    def _entries(self) -> Iterator[tuple[str, str]]:
        with open(self.path, encoding='utf-8', errors='surrogateescape', newline='\n') as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip('\r\n')
                if not line.strip() or line.startswith('#'):
                    continue
                found = _LINE.fullmatch(line)
                if found is None:
                    raise ValueError(f"manifest '{self.path}', line {number}: not of the form "
                                     "'<64 hex digits>  <path>', as sha256sum writes it")
                yield osp.normpath(found.group(2)), found.group(1).lower()

    def __len__(self) -> int:
        return len(self.digests)

    def problem(self, path: str, data: bytes) -> str | None:
        """What is wrong with the bytes of the file ``path``, or None."""
        return self._compare(path, digest(data))

    def file_problem(self, path: str) -> str | None:
        """As ``problem``, reading the local file itself, in pieces."""
        return self._compare(path, file_digest(path))

    def _compare(self, path: str, found: str) -> str | None:
        wanted = self.digests.get(_relative(path, self.folder))
        if wanted is None:
            return f"it is not in the manifest '{self.path}'"
        if found != wanted:
            return (f"its content is not that of the manifest '{self.path}' (SHA-256 {found[:12]}"
                    f'... instead of {wanted[:12]}...)')
        return None


def _relative(path: str, folder: str) -> str:
    """A file's name in a manifest; a remote address stays what it is."""
    if not is_local(path):
        return osp.normpath(path)
    return osp.relpath(osp.abspath(path), folder).replace(os.sep, '/')
