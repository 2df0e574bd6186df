"""Finding image files, and saying which ones are missing."""

from __future__ import annotations

import os
import os.path as osp
from typing import Iterator

import mmengine.fileio as fileio

# images of other kinds, which OpenCV reads nowhere or not everywhere
OTHER_IMAGES = ('.heic', '.heif', '.avif', '.gif', '.jp2', '.j2k', '.jxl', '.jfif', '.jpe', '.dng')
THUMBNAILS = ('@eaDir', '__MACOSX')  # folders that storage boxes and archives add
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
# what masks, and folders of masks, are called: photos/masks/a.png, a_mask.png, a-labelIds.png
OF_MASKS = ('mask', 'masks', 'label', 'labels', 'labelids', 'labeltrainids', 'annotation',
            'annotations', 'gt', 'segmentation', 'segmentations')
ENDINGS = tuple(mark + word for mark in '_-. ' for word in OF_MASKS)
ARRAY_SUFFIX = '.npy'  # images for a loader of the user's own, where there are no others


def has_image_suffix(name: str) -> bool:
    """Whether ``name`` ends with a known image suffix, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_jpeg_name(name: str) -> bool:
    """Whether a file calls itself a JPEG, whose pixels are not what was written."""
    return name.lower().endswith(('.jpg', '.jpeg', '.jfif', '.jpe'))


def is_local(path: str, backend_args: dict | None = None) -> bool:
    """Whether mmengine would read ``path`` from this machine's file system.

    Decided from the words alone: asking mmengine for the backend imports its client library.
    """
    if backend_args:
        return backend_args.get('backend') == 'local'
    return '://' not in str(path)


class Folders:
    """os.path.isfile and islink for many files of few folders: one listing for each folder.

    So a million questions, each of which a network's file system answers on its own, become a
    thousand. What a listing does not show is asked for all the same: the file system may not care
    about upper and lower case, and a folder may be closed to listing.
    """

    def __init__(self) -> None:
        self._files: dict = {}
        self._links: dict = {}

    def isfile(self, folder: str, name: str) -> bool:
        """Whether it is a file, or a link to one."""
        names = self._listed(self._files, folder, os.DirEntry.is_file)
        return (names is not None and name in names) or osp.isfile(osp.join(folder, name))

    def islink(self, folder: str, name: str) -> bool:
        """Whether it is a link."""
        names = self._listed(self._links, folder, os.DirEntry.is_symlink)
        return osp.islink(osp.join(folder, name)) if names is None else name in names

    @staticmethod
    def _listed(known: dict, folder: str, wanted) -> set | None:
        if folder not in known:
            try:
                with os.scandir(folder or '.') as entries:
                    known[folder] = {entry.name for entry in entries if wanted(entry)}
            except FileNotFoundError:
                known[folder] = set()
            except OSError:
                known[folder] = None
        return known[folder]


class Findings:
    """Counts what is wrong and keeps the first ``most`` (None: all); a message has three."""

    def __init__(self, most: int | None = 3) -> None:
        self.items: list = []
        self.count, self.most = 0, most

    def add(self, item: str) -> None:
        self.count += 1
        if self.most is None or self.count <= self.most:
            self.items.append(item)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = f' and {self.count - 3} more' if self.count > 3 else ''
        return ', '.join(f"'{item}'" for item in self.items[:3]) + more


def find_images(folder: str,
                suffix: str | None = None,
                backend_args: dict | None = None) -> list:
    """Relative paths of all images below ``folder``, sorted; hidden files and folders are skipped.

    Sorting is by the path with forward slashes, so every machine and rank gets the same order.
    """
    return survey_images(folder, suffix, backend_args)[0]


class LeftOut:
    """What a folder holds beside the images that are taken from it, counted."""

    def __init__(self) -> None:
        self.closed, self.other, self.thumbnails, self.twins, self.masks = (
            Findings(most=None) for _ in range(5))

    def sentences(self) -> list:
        """What a user should know, one sentence each; [] where there is nothing."""
        return [sentence for sentence, _ in self.told()]

    def told(self) -> list:
        """The same, each with all the names that it is about."""
        said = ((self.closed, 'folders cannot be read and were left out (permissions)'),
                (self.other, 'files are images of a kind that is not read and were left out: '
                             'convert them to PNG or JPEG'),
                (self.thumbnails, 'folders of thumbnails were left out'),
                (self.twins, 'images have the name of another one but for the suffix: if they are '
                             'masks beside their images, move them to a folder of their own'),
                (self.masks, 'images look like masks of others, by their names: photos would be '
                             'learnt from them. Move masks to a folder beside this one'))
        return [(f'{found.count} {what}: {found}', found.items) for found, what in said if found]

    def look_for_twins(self, names: list) -> None:
        seen: dict = {}
        for name in names:
            if seen.setdefault(osp.splitext(name)[0], name) != name:
                self.twins.add(name)

    def look_for_masks(self, names: list) -> None:
        """Images of another one's name in a folder of masks, or with a word such as _mask."""
        named = {folder: any(map(_of_masks, folder.replace(os.sep, '/').split('/')))
                 for folder in set(map(osp.dirname, names))}
        odd = [name for name in names if named[osp.dirname(name)] or _of_masks(_stem(name))]
        photos = set(map(_stem, set(names).difference(odd))) if odd else set()
        for name in odd:
            stem = _stem(name)
            if stem in photos or stem[:max(map(stem.rfind, '_-. '))] in photos:
                self.masks.add(name)


def _stem(name: str) -> str:
    return osp.splitext(osp.basename(name))[0]


def _of_masks(word: str) -> bool:
    return word.lower() in OF_MASKS or word.lower().endswith(ENDINGS)


def survey_images(folder: str, suffix: str | None = None,
                  backend_args: dict | None = None) -> tuple:
    """(:func:`find_images`, LeftOut); on another file backend nothing is known of what is left."""
    left = LeftOut()
    if is_local(folder, backend_args):
        names = _walk(folder, left)
    else:
        names = fileio.list_dir_or_file(
            folder, list_dir=False, recursive=True, backend_args=backend_args)
    names = (name for name in names if not osp.basename(name).startswith('.'))
    taken, arrays = [], []
    for name in sorted(names):
        if name.endswith(suffix) if suffix else has_image_suffix(name):
            taken.append(name)
        elif not suffix and name.endswith(ARRAY_SUFFIX):
            arrays.append(name)
        elif not suffix and name.lower().endswith(OTHER_IMAGES):
            left.other.add(name)
    taken = taken or arrays  # of a loader of the user's own
    taken.sort(key=lambda name: name.replace(os.sep, '/'))
    left.look_for_twins(taken)
    left.look_for_masks(taken)
    return taken, left


def _walk(folder: str, left: LeftOut) -> Iterator[str]:
    """Files below ``folder``, through linked folders too, but never round a circle of links."""
    seen = set()
    for place, folders, files in os.walk(
            folder, followlinks=True, onerror=lambda error: left.closed.add(error.filename)):
        real = osp.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # sorted, so that of two links to one folder every machine keeps the same
        for name in sorted(set(folders) & set(THUMBNAILS)):
            left.thumbnails.add(osp.join(place, name))
        folders[:] = sorted(name for name in folders
                            if not name.startswith('.') and name not in THUMBNAILS)
        inside = osp.relpath(place, folder)
        for name in files:
            yield name if inside == osp.curdir else osp.join(inside, name)
