"""What a file's bytes say about it: truncation and damage that decoders pass over."""

from __future__ import annotations

import io
import os
import os.path as osp
import re
import struct
import zlib

from PIL import Image

ORIENTATION = 0x0112  # EXIF's tag
PNG = b'\x89PNG\r\n\x1a\n'
# in a JPEG's coded pixels: neither a stuffed 0xff nor a restart marker
_MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')
_END, _ALONE = 0xd9, (0x01, 0xd8)  # end of image; markers without a length


def content_problem(data: bytes) -> str | None:
    """What is wrong with the bytes of an image file, or None.

    JPEG: libjpeg fills what is missing with grey and OpenCV 4 says nothing of it, so the segments
    are followed to the end-of-image marker. PNG: every chunk's own checksum is compared. Nothing
    is decoded, and other formats are only asked not to be empty: their decoders do complain.
    """
    if not data:
        return 'it is empty'
    if data[:3] == b'\xff\xd8\xff':
        return None if _jpeg_ends(data) else 'it is truncated (a JPEG without its end marker)'
    if data[:8] == PNG:
        return _png_problem(data)
    return None


def _jpeg_ends(data: bytes) -> bool:
    at = 2
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            return False
        at, code = found.end(), data[found.end() - 1]
        if code == _END:
            return True
        if code not in _ALONE:  # its length counts itself; a thumbnail's end marker is jumped over
            at += int.from_bytes(data[at:at + 2], 'big')


def _png_problem(data: bytes) -> str | None:
    view, at = memoryview(data), len(PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack('>I4s', view[at:at + 8])
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4:end - 4]) != int.from_bytes(view[end - 4:end], 'big'):
            return f'it is damaged (checksum of its {kind.decode("latin-1")} chunk)'
        if kind == b'IEND':
            return None
        at = end
    return 'it is truncated (a PNG without its end chunk)'


def orientation(data: bytes) -> int:
    """How an image file's EXIF data ask a viewer to turn its pixels: 1 (not at all) to 8.

    JPEG, PNG, WebP and TIFF carry such data; 1 where there are none, or none that can be read.
    """
    if data[:8] == PNG and b'eXIf' not in data and b'exif' not in data and b'xmp' not in data:
        return 1  # PIL would decode the whole image to see that nothing comes after it
    try:
        with Image.open(io.BytesIO(data)) as image:
            value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever is wrong with the file is said by who decodes it
        return 1
    return value if value in range(2, 9) else 1


def path_problem(path: str) -> str | None:
    """Why a local path is no file, or None if it is one."""
    if osp.isfile(path):
        return None
    if osp.isdir(path):
        return 'it is a directory'
    if osp.exists(path):  # a pipe: reading it could wait for ever
        return 'it is no regular file'
    if osp.islink(path):
        return f"it is a broken link to '{os.readlink(path)}'"
    return 'it is no regular file' if osp.exists(path) else 'it does not exist'
