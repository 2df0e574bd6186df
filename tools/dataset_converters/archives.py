"""What the converters share: reading archives, writing each file once and whole, counting.

Every output is written under another name and renamed, so that a run may be interrupted anywhere;
the same command then goes on with what is missing, and does nothing where nothing is.
"""
from __future__ import annotations

import argparse
import lzma
import os
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Callable, Iterable, Iterator

# the package of this clone goes first, so that it works without being installed
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.progress import Progress

from mmseg_esl.progress import Lines, track
from mmseg_esl.storage.atomic import atomic_file

SCREEN = Console(stderr=True)
# a flipped bit in a zip's directory may ask for a password or for an unknown compression
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError,
          NotImplementedError, ValueError, struct.error)
MOST = 2 ** 31  # bytes of a file; images and annotations are far below


class ConversionError(Exception):
    """Something about the archives that a user can mend; the message says how."""


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every converter."""
    out = argparse.ArgumentParser(description=description)
    out.add_argument('--no-count-check', action='store_true',
                     help='accept other numbers of files, for a part of the data')
    out.add_argument('--workers', type=int, default=os.cpu_count() or 1, metavar='N',
                     help='threads (default: one a core)')
    return out


def main(convert: Callable) -> None:
    """Run a converter; what goes wrong becomes a line and an exit status."""
    try:
        convert()
    except KeyboardInterrupt:
        sys.exit('interrupted; the same command goes on with what is missing')
    except (ConversionError, OSError) as error:
        sys.exit(f'{Path(sys.argv[0]).name}: {error}')


def progress() -> Progress:
    return Progress(console=SCREEN, disable=not SCREEN.is_terminal)


def write(path: Path, data: bytes) -> None:
    """Write a file that is there completely or not at all."""
    with atomic_file(path) as file:
        file.write(data)


def is_copied(path: Path, size: int) -> bool:
    """Whether a file is there with the size it has in the archive."""
    return path.is_file() and path.stat().st_size == size


def for_all(items: Iterable, job: Callable, what: str, workers: int) -> None:
    """Call ``job`` for each item, in threads, with a bar. The first error ends it."""
    items = list(items)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        done = (result for start in range(0, len(items), 64)  # an interruption waits for 64
                for result in pool.map(job, items[start:start + 64]))
        for _ in track(done, what, len(items)):
            pass


def stream_tar(path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """(name, size, function that reads it) of each file of a tar, compressed or not, in order.

    Raises:
        ConversionError: the archive is missing, damaged or ends early.
    """
    check_archive(path)
    try:
        with progress() as bar, bar.open(path, 'rb', description=Path(path).name) as raw, \
                tarfile.open(fileobj=raw, mode='r|*') as tar:
            lines = Lines(f'files of {Path(path).name}', None)
            for member in tar:
                if not SCREEN.is_terminal:
                    lines.advance()
                if member.isfile():
                    yield member.name, member.size, partial(_read, path, tar, member)
    except BROKEN as error:
        raise _damaged(path, error) from error


def _read(path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    _check_size(path, member.name, member.size)
    try:  # called by whoever iterates, where the other one cannot catch it
        return tar.extractfile(member).read()
    except BROKEN as error:
        raise _damaged(path, error) from error


def _check_size(path, name: str, size: int) -> None:
    if size > MOST:
        raise ConversionError(f"'{name}' in the archive '{path}' would be {size / 2 ** 30:.1f} "
                              'GiB: this is not the archive that docs/datasets.md names')


def check_archive(path) -> None:
    if not Path(path).is_file():
        raise ConversionError(f"the archive '{path}' does not exist (or is not a file). "
                              'docs/datasets.md says which archives are needed')


def _damaged(path, error) -> ConversionError:
    return ConversionError(f"the archive '{path}' is damaged or was not downloaded to its end "
                           f'({error}). Download it again; what was written is kept')


class Zip:
    """A zip archive whose members several threads may read. Errors as in ``stream_tar``."""

    def __init__(self, path) -> None:
        check_archive(path)
        self.path = path
        try:
            self.file = zipfile.ZipFile(path)
        except BROKEN as error:
            raise _damaged(path, error) from error

    def matching(self, pattern: str) -> list[tuple[str, zipfile.ZipInfo]]:
        """(what the pattern matched, member) of every file whose path ends with the pattern."""
        end = re.compile(rf'(?:^|/)({pattern})$')
        found = ((end.search(info.filename), info) for info in self.file.infolist())
        return [(match.group(1), info) for match, info in found if match]

    def read(self, info: zipfile.ZipInfo) -> bytes:
        _check_size(self.path, info.filename, info.file_size)
        try:
            with self.file.open(info) as file:
                return file.read(info.file_size)  # what says less than it holds is cut, and fails
        except BROKEN as error:
            raise _damaged(self.path, f'{info.filename}: {error}') from error

    def copy(self, pattern: str, out: Path, workers: int) -> None:
        """Copy all members of a pattern that are not below ``out`` yet."""
        wanted = [(out / name, info) for name, info in self.matching(pattern)
                  if not is_copied(out / name, info.file_size)]
        for_all(wanted, lambda item: write(item[0], self.read(item[1])), Path(self.path).name,
                workers)


def check_counts(found: dict, wanted: dict, skip: bool) -> None:
    """Compare numbers of files, and print them.

    Raises:
        ConversionError: one differs and ``skip`` is False; all that differ are named.
    """
    print(', '.join(f'{number} {name}' for name, number in found.items()))
    wrong = [f'{found[name]} {name} instead of {number}' for name, number in wanted.items()
             if found[name] != number]
    if wrong and not skip:
        raise ConversionError('; '.join(wrong) + '. An archive is not whole, or it is another '
                              'one. For a part of the data give --no-count-check')


def check_present(names: Iterable[str], folder: Path, suffix: str, what: str) -> None:
    """Raises ConversionError if a file ``folder/NAME SUFFIX`` is missing."""
    missing = [name for name in names if not (folder / (name + suffix)).is_file()]
    if missing:
        raise ConversionError(f"{len(missing)} {what} are missing in '{folder}', such as "
                              f'{missing[0]}{suffix}: the archives do not belong together')


def count(folder: Path, pattern: str) -> int:
    """Number of files of a pattern below a folder."""
    return sum(1 for _ in folder.glob(pattern))
