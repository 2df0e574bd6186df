"""Images within tar files, by offset: an index beside each tar, and a file backend that reads one.

An image of a tar is a path of its own, ``tar:///data/000.tar#1536+70/cat.jpg``: 70 bytes from byte
1536 on. Everything that reads paths through mmengine (mmcv's loaders, the checks of SemiDataset)
reads it. A tar on another file system is ``tar+s3://bucket/000.tar#...``, of which fsspec then
fetches just those bytes.
"""

from __future__ import annotations

import os.path as osp
import re
import tarfile

import numpy as np
from mmengine.fileio import BaseStorageBackend, register_backend

from ..commands import tool
from ..storage.atomic import atomic_file
from .files import has_image_suffix

INDEX_SUFFIX = '.index.npy'
REMOTE = ('s3', 'gs', 'az', 'https', 'memory')  # of fsspec
_IMAGE = re.compile(r'tar(?:\+(\w+))?://(.+)#(\d+)\+(\d+)/[^#]*', re.DOTALL)


def write_index(tar: str, index: str) -> int:
    """Write where the images of a local tar lie; the index appears completely or not at all.

    ``index`` is a ``.npy`` of (offset, size, name). Its first row holds the size of the tar, by
    which an index of another file is known.

    Returns:
        The number of images.

    Raises:
        FileNotFoundError: no such tar.
        ValueError: compressed, truncated, damaged, or without an image.
    """
    whole, rows = osp.getsize(tar), []
    try:
        with tarfile.open(tar, 'r:') as file:
            for member in file:
                name = osp.basename(member.name)
                if member.isreg() and has_image_suffix(name) and not name.startswith('.'):
                    rows.append((member.offset_data, member.size, member.name.encode(
                        'utf-8', 'surrogateescape')))
                file.members = []  # a million of them would stay in memory
    except tarfile.TarError as error:
        raise ValueError(f"'{tar}' is no tar whose members can be read by offset ({error}): it is "
                         'compressed or damaged. Write it anew with tar -cf') from error
    if not rows:
        raise ValueError(f"'{tar}' holds no image")
    if rows[-1][0] + rows[-1][1] > whole:
        raise ValueError(f"'{tar}' is truncated: its last image ends behind it. Copy it again")
    width = max(len(name) for *_, name in rows)
    with atomic_file(index) as out:
        np.save(out, np.array([(-1, whole, b''), *rows], dtype=[
            ('offset', '<i8'), ('size', '<i8'), ('name', f'S{width}')]))
    return len(rows)


class TarIndex:
    """An index of :func:`write_index`; its rows stay on the disk.

    Raises:
        FileNotFoundError: there is none. ValueError: it is none.
    """

    def __init__(self, path: str) -> None:
        if not osp.isfile(path):
            raise FileNotFoundError(f"there is no index '{path}'. Write it with 'python "
                                    f"{tool('dataset_converters/index_shards.py')} FOLDER'")
        try:
            self.rows = np.load(path, mmap_mode='r', allow_pickle=False)
            good = self.rows.dtype.names == ('offset', 'size', 'name') and len(self.rows) > 1
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"'{path}' is no index of a tar. Remove it and write it again")
        self.tar_size = int(self.rows[0]['size'])

    def __len__(self) -> int:
        return len(self.rows) - 1

    def image(self, tar: str, number: int) -> str:
        """The path of image ``number`` of the tar at ``tar``."""
        offset, size, name = self.rows[1 + number].tolist()
        protocol, found, rest = tar.partition('://')
        place = f'tar+{protocol}://{rest}' if found else f'tar://{osp.abspath(tar)}'
        return f'{place}#{offset}+{size}/{name.decode("utf-8", "surrogateescape")}'


class TarBackend(BaseStorageBackend):
    """Reads the images that :meth:`TarIndex.image` names."""

    def get(self, filepath: str) -> bytes:
        """The bytes of one image.

        Raises:
            ValueError: not such a path. OSError: the tar is missing or too short; what fsspec says.
        """
        found = _IMAGE.fullmatch(str(filepath))
        if found is None:
            raise ValueError(f"'{filepath}' is not of the form tar://TAR#OFFSET+SIZE/NAME")
        protocol, tar, offset, size = *found.groups()[:2], *map(int, found.groups()[2:])
        if protocol:
            data = self._remote(protocol, tar, offset, size)
        else:
            with open(tar, 'rb') as file:
                file.seek(offset)
                data = file.read(size)
        if len(data) != size:
            raise OSError(f"'{tar}' ends before byte {offset + size}: it is truncated")
        return data

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        return self.get(filepath).decode(encoding)

    @staticmethod
    def _remote(protocol: str, tar: str, offset: int, size: int) -> bytes:
        try:
            import fsspec
            files = fsspec.filesystem(protocol)
        except ImportError as error:
            raise ImportError(f"shards on {protocol}:// need fsspec's package for it: pip install "
                              f'"mmseg_esl[shards]" (s3), or the one it names ({error})') from error
        return files.cat_file(f'{protocol}://{tar}', start=offset, end=offset + size)


register_backend('tar', TarBackend, force=True,
                 prefixes=['tar', *(f'tar+{name}' for name in REMOTE)])
