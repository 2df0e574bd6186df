"""Images without labels, from a folder or from a list."""

from __future__ import annotations

import logging
import os
import os.path as osp
import re
from typing import Iterator

import mmengine
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .files import (
    ARRAY_SUFFIX,
    IMAGE_SUFFIXES,
    Findings,
    Folders,
    has_image_suffix,
    is_local,
    survey_images,
)


@DATASETS.register_module()
class UnlabeledDataset(BaseSegDataset):
    """Images alone: no mask and no annotation file, not even a path to one.

    Without ``ann_file``, every image below ``data_prefix['img_path']``: nested folders, mixed
    suffixes (jpg, jpeg, png, bmp, tif, tiff, webp in any case), hidden files skipped, sorted. A
    folder without any gives its ``.npy`` files, for a loader of your own.

    With ``ann_file``, the images of that list, in its order. One entry a line, relative to
    ``data_prefix['img_path']``: a path with its suffix, or a stem, to which ``img_suffix`` is
    appended; with ``img_suffix=None`` the one image file of that stem is looked up. Blank lines
    and lines starting with ``#`` are skipped, and of a line ``image.jpg mask.png`` the first
    column counts.

    Args:
        ann_file: the list, UTF-8; relative to ``data_root``.
        img_suffix: None for any known suffix, or one, for example ``'_leftImg8bit.png'``: it
            completes the stems of a list, and selects the files of a folder.
        check_files: look whether every listed file exists. Local files only; a list on another
            file backend is believed.
        **kwargs: as mmseg's BaseSegDataset (``data_root``, ``data_prefix``, ``indices``,
            ``pipeline``, ...). Of ``data_prefix`` only ``img_path`` is kept.

    Raises:
        FileNotFoundError: the folder, the list or listed files are missing.
        ValueError: nothing in the folder or list, an image listed twice, a stem that fits several
            files, a list that is not UTF-8.
    """

    def __init__(self,
                 ann_file: str = '',
                 img_suffix: str | None = None,
                 check_files: bool = True,
                 **kwargs) -> None:
        self.check_files = check_files
        prefix = kwargs.pop('data_prefix', None) or {}
        # the mask folder of an inherited config is dropped: what is unknown cannot be opened
        kwargs['data_prefix'] = dict(img_path=prefix.get('img_path') or '')
        super().__init__(ann_file=ann_file, img_suffix=img_suffix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict per image, with the keys of any mmseg dataset but for ``seg_map_path``."""
        folder = self.data_prefix['img_path']
        if is_local(folder, self.backend_args):
            self._check_folder(folder)
        paths = self._listed(folder) if self.ann_file else self._found(folder)
        # one list for all: the dicts are copied, in one way or another, before anybody gets them
        fields: list = []
        return [
            dict(img_path=path, label_map=None, reduce_zero_label=False, seg_fields=fields)
            for path in paths
        ]

    def _check_folder(self, folder: str) -> None:
        if not folder and self.ann_file:  # the entries are relative to where we are, or absolute
            return
        if not folder:
            raise ValueError('UnlabeledDataset was given neither a folder nor a list: set '
                             'data_prefix=dict(img_path=...), or ann_file')
        if not osp.isdir(folder):
            raise FileNotFoundError(
                f"UnlabeledDataset: the image folder '{folder}' does not exist (or is not a "
                f"folder). Set data_root (now '{self.data_root}') and "
                'data_prefix=dict(img_path=...) to the folder that holds the unlabelled images')

    def _found(self, folder: str) -> list[str]:
        names, left = survey_images(folder, self.img_suffix, self.backend_args)
        for sentence in left.sentences():
            print_log(f"UnlabeledDataset: '{folder}': {sentence}", 'current', logging.WARNING)
        if not names:
            kinds = self.img_suffix or ', '.join(IMAGE_SUFFIXES)
            raise ValueError(
                f"UnlabeledDataset: no image below '{folder}' (looked for {kinds}). Point "
                'data_prefix=dict(img_path=...) at the images, or correct img_suffix')
        return [osp.join(folder, name) for name in names]

    def _listed(self, folder: str) -> list[str]:
        paths: dict[str, int] = {}  # path -> its line; a dict keeps the order of the list
        missing, twice = Findings(), Findings()
        look = self.check_files and is_local(folder, self.backend_args)
        folders = Folders()
        resolver = _Resolver(self.ann_file, folder, self.img_suffix, self.backend_args)
        for number, entry in self._entries():
            path = resolver(number, entry)
            if path is None and not self.check_files:  # found missing when it is read
                path = osp.join(folder, entry)
            if path is None or (look and not folders.isfile(*osp.split(path))):
                missing.add(f'line {number}: {path or osp.join(folder, entry) + ".*"}')
            elif path in paths:
                twice.add(f'lines {paths[path]} and {number}: {path}')
            else:
                paths[path] = number
        if missing:
            raise FileNotFoundError(
                f"UnlabeledDataset: {missing.count} of the images listed in '{self.ann_file}' do "
                f'not exist: {missing}. Correct the list, '
                f"data_prefix=dict(img_path=...) (now '{folder}') or img_suffix (now "
                f'{self.img_suffix!r})')
        if twice:
            raise ValueError(
                f"UnlabeledDataset: {twice.count} of the entries of '{self.ann_file}' repeat an "
                f'image: {twice}. Keep one line per image')
        if not paths:
            raise ValueError(f"UnlabeledDataset: the list '{self.ann_file}' names no image. Write "
                             'one image a line, or leave ann_file out to take the whole folder')
        return list(paths)

    def _entries(self) -> Iterator[tuple[int, str]]:
        """(line number from 1, entry) of every line that is neither blank nor a comment."""
        if is_local(self.ann_file, self.backend_args) and not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f"UnlabeledDataset: the list '{self.ann_file}' does not exist (or is not a file). "
                'Set ann_file (relative to data_root) to a text file with one image a line, or '
                'leave it out to take the whole folder')
        try:  # utf-8-sig: some editors put a mark before the first name
            lines = mmengine.list_from_file(
                self.ann_file, encoding='utf-8-sig', backend_args=self.backend_args)
        except UnicodeDecodeError as error:
            raise ValueError(f"UnlabeledDataset: the list '{self.ann_file}' is not UTF-8 text "
                             f'({error}). Save it as UTF-8') from error
        for number, line in enumerate(lines, 1):
            entry = line.strip()
            if entry and not entry.startswith('#'):
                yield number, entry


class _Resolver:
    """From an entry of a list to the path of its image, or None when no file fits."""

    def __init__(self, ann_file: str, folder: str, suffix: str | None,
                 backend_args: dict | None) -> None:
        self.ann_file = ann_file
        self.folder = folder
        self.suffix = suffix
        self.local = is_local(folder, backend_args)
        known = '|'.join(re.escape(s) for s in IMAGE_SUFFIXES + ((suffix, ) if suffix else ()))
        self.columns = re.compile(rf'(.+?(?:{known}))\s+.*(?:{known})', re.IGNORECASE)
        self.stems: dict[str, dict[str, list[str]]] = {}  # folder -> stem -> names

    def __call__(self, number: int, entry: str) -> str | None:
        columns = self.columns.fullmatch(entry)
        # a name may contain a space: a file called like the whole line goes first
        if columns and not (self.local and osp.isfile(osp.join(self.folder, entry))):
            entry = columns.group(1)
        path = osp.join(self.folder, entry)
        path = osp.normpath(path) if self.local else path
        if has_image_suffix(entry) or entry.endswith((self.suffix or ARRAY_SUFFIX, ARRAY_SUFFIX)):
            return path
        if self.suffix:
            return path + self.suffix
        return self._look_up(number, entry, path)

    def _look_up(self, number: int, entry: str, path: str) -> str | None:
        if not self.local:
            raise ValueError(
                f"UnlabeledDataset: line {number} of '{self.ann_file}' gives '{entry}' without a "
                'suffix, which only a local folder can complete. Set img_suffix')
        place, stem = osp.split(path)
        if place not in self.stems:  # one listing per folder, not one question per suffix
            self.stems[place] = {}
            for name in sorted(os.listdir(place or '.')) if osp.isdir(place or '.') else ():
                if has_image_suffix(name) and not name.startswith('.'):
                    self.stems[place].setdefault(osp.splitext(name)[0], []).append(name)
        names = self.stems[place].get(stem, [])
        if len(names) > 1:
            raise ValueError(
                f"UnlabeledDataset: line {number} of '{self.ann_file}' gives '{entry}', which "
                f"fits {' and '.join(names)} in '{place}'. Set img_suffix, or write the "
                'suffix in the list')
        return osp.join(place, names[0]) if names else None
