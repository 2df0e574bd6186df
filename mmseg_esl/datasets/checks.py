"""Two checks inside the loading pipelines: of the files, and of the label map they give."""

from __future__ import annotations

import logging
import os.path as osp
from dataclasses import dataclass

import mmcv
import mmengine.fileio as fileio
import numpy as np
import torch
from mmengine.logging import print_log

from .bad_samples import BadDataError
from .file_check import content_problem, orientation, path_problem
from .files import is_local
from .manifest import Manifest

IGNORE = 255  # what mmseg ignores, unless a config says otherwise


@dataclass
class LabelValues:
    """What label maps may hold; one object for all checks of a data set.

    Attributes:
        num_classes: or None, to leave the values alone.
        ignore_index: what the head ignores. SemiTrainLoop sets the model's.
    """
    num_classes: int | None = None
    ignore_index: int = IGNORE

    def check(self, label, path: str | None) -> None:
        """Raise BadDataError if a label map (array or tensor) holds values outside them."""
        if self.num_classes is None:
            return
        number, ignored = self.num_classes, self.ignore_index
        outside = ((label < 0) | (label >= number)) & (label != ignored)
        if not outside.any():
            return
        values = np.unique(np.asarray(label[outside])).tolist()
        shown = ', '.join(map(str, values[:8])) + (', ...' if len(values) > 8 else '')
        raise bad_data('mask', path, f'it holds the label values {shown}, but the classes are 0 to '
                       f'{number - 1} (and {ignored} for ignored pixels). Check metainfo classes, '
                       'reduce_zero_label (masks that count from 1), ignore_index of the decode '
                       'head (and of the data set), and that the mask holds class indices and not '
                       'grey levels or colours')


class CheckFiles:
    """First transform of a pipeline: look at each file when it is read for the first time.

    Bytes against the manifest, structure of JPEG and PNG, and whether they decode at all:
    ``LoadImageFromFile(ignore_empty=True)`` would take another image silently. Which samples have
    been looked at stands in memory that all workers share.

    Args:
        size: samples of the dataset.
        loader, reader: the pipeline's LoadImageFromFile and LoadAnnotations, or None for one of
            the user's own: its files are then not decoded here, and need not be files at all.
        manifest: or None.
        as_loaded: masks were made of the images as this loader gives them: pseudo labels.
    """

    def __init__(self, size: int, loader=None, reader=None, manifest: Manifest | None = None,
                 as_loaded: bool = False) -> None:
        self.seen = torch.zeros(size, dtype=torch.uint8).share_memory_()
        self.loader, self.reader, self.manifest = loader, reader, manifest
        self.said_depth, self.as_loaded = False, as_loaded

    def __call__(self, results: dict) -> dict:
        slot = results.get('sample_idx')
        if slot is None or not self.seen[slot]:
            self._look(results)
            if slot is not None:
                self.seen[slot] = 1
        return results

    def __repr__(self) -> str:
        return f'CheckFiles(manifest={self.manifest and self.manifest.path!r})'

    def _look(self, results: dict) -> None:
        image, mask = results.get('img_path'), results.get('seg_map_path')
        stored = data = label = None
        if image is not None and not self._left(image, self.loader):
            data = self._bytes(image, 'image', self.loader)
            stored = self._image(image, data)
        if mask is not None and not self._left(mask, self.reader):
            label = self._mask(mask, self._bytes(mask, 'mask', self.reader))
        if stored is not None and label is not None and not self.as_loaded:
            self._turned(image, data, stored.shape[:2] == label.shape)

    def _turned(self, path: str, data: bytes, alike: bool) -> None:
        """Refuse a mask of which nobody can say whether it is of the turned image.

        Args:
            path: of the image. data: its bytes. alike: the mask has the size of the pixels as they
                are stored. One of the turned size is the turned image's.
        """
        turn = orientation(data)
        if turn != 1 and alike and turns(self.loader):
            raise bad_data('image', path, f'its EXIF data (orientation {turn}) ask to turn it, '
                           'which its mask, of the size of the stored pixels, cannot say. Write '
                           'the image as it is to be seen, without such data, or set color_type='
                           "'color_ignore_orientation' of LoadImageFromFile where masks are of the "
                           'stored pixels')

    @staticmethod
    def _left(path: str, loader) -> bool:
        """Whether a loader of the user's own is alone in knowing how to get at this."""
        return loader is None and not osp.lexists(path)

    def _bytes(self, path: str, what: str, loader) -> bytes:
        backend = getattr(loader, 'backend_args', None)
        problem = path_problem(path) if is_local(path, backend) else None
        if problem is None:
            try:
                data = fileio.get(path, backend_args=backend)
            except Exception as error:
                raise bad_data(what, path, f'{type(error).__name__}: {error}') from error
            problem = content_problem(data) or (
                self.manifest and self.manifest.problem(path, data))
        if problem:
            raise bad_data(what, path, problem)
        return data

    def _image(self, path: str, data: bytes):
        """The pixels as they are stored; None if it is not decoded."""
        if self.loader is None:
            return None
        flag, backend = self.loader.color_type, self.loader.imdecode_backend
        # as it is in the file, to see its depth
        raw = 'unchanged' if backend in ('cv2', 'pillow') else flag
        pixels = decode(path, 'image', data, raw, backend)
        if pixels.dtype.itemsize > 1 and raw != flag and not self.said_depth:
            self.said_depth = True
            print_log(f"SemiDataset: '{path}' has {8 * pixels.dtype.itemsize} bits a channel and "
                      "is reduced to 8 by LoadImageFromFile (backend cv2: to its high byte, value "
                      '// 256). Convert such images if they do not use the whole range',
                      'current', logging.WARNING)
        return pixels

    def _mask(self, path: str, data: bytes):
        """The values of the file, ``(H, W)``; None if it is not decoded."""
        if self.reader is None:
            return None
        backend = self.reader.imdecode_backend
        pixels = decode(path, 'mask', data, 'unchanged', backend).squeeze()
        if pixels.ndim != 2:
            palette = (" (imdecode_backend='cv2' turns palettes into colours, the default "
                       "'pillow' does not)" if backend == 'cv2' else '')
            raise bad_data('mask', path, f'it has {pixels.shape[-1]} channels{palette}. A mask has '
                           'one, of class indices: convert colour masks to palette-indexed or grey '
                           'ones')
        if (pixels != pixels.astype(np.uint8)).any():
            raise bad_data('mask', path, f'its values go from {pixels.min()} to {pixels.max()}, '
                           'and mmseg keeps only their last 8 bits. Convert it to 8 bits of class '
                           'indices')
        return pixels


class CheckMask:
    """After the transform that reads labels: is the map the image's, and full of classes?

    The whole map is looked at, so a fault shows at once and not only where a crop hits it.

    Args:
        values: what it may hold.
    """

    def __init__(self, values: LabelValues) -> None:
        self.values, self.said_empty = values, False

    def __call__(self, results: dict) -> dict:
        label, path = results.get('gt_seg_map'), results.get('seg_map_path')
        if label is not None:
            sizes = [tuple(results[key][:2]) for key in ('ori_shape', 'img_shape')
                     if key in results]  # another transform may stand between image and mask
            if sizes and label.shape not in sizes:
                raise bad_data('mask', path, f'it gives a label map of shape {label.shape} for an '
                               f'image of {sizes[0]}. A mask has one channel of class indices and '
                               'the size of its image (OpenCV turns images as their EXIF data say)')
            if label.dtype.kind == 'f' and (label != np.round(label)).any():
                raise bad_data('mask', path, 'its label map holds values that are no whole numbers '
                               '(NaN, or between two classes): a loader that resizes label maps '
                               "takes the nearest pixel, interpolation='nearest'")
            self.values.check(label, path)
            ignored = self.values.ignore_index
            if not self.said_empty and (label == ignored).all():
                self.said_empty = True  # normal of tiles, and where label_map leaves classes out
                print_log(f"SemiDataset: the mask '{path}' has no labelled pixel, all are "
                          f'{ignored}: it teaches nothing. If all masks are like that, check '
                          'reduce_zero_label and label_map', 'current', logging.WARNING)
        return results

    def __repr__(self) -> str:
        return f'CheckMask({self.values})'


def turns(loader) -> bool:
    """Whether a LoadImageFromFile turns images as their EXIF data say.

    By cv2 or pillow, unless ``color_type`` ignores it. Which kinds of files cv2 turns depends on
    its version: PNG and WebP may be turned, too.
    """
    flag, backend = str(loader.color_type), loader.imdecode_backend or mmcv.image.io.imread_backend
    return backend in ('cv2', 'pillow') and flag in ('color', 'grayscale')


def decode(path: str, what: str, data: bytes, flag: str, backend: str) -> np.ndarray:
    """The pixels as mmcv reads them; raises BadDataError where it gives none."""
    try:
        pixels = mmcv.imfrombytes(data, flag=flag, backend=backend)
    except Exception as error:
        raise bad_data(what, path, f'it is no readable image ({type(error).__name__}: {error})'
                  ) from error
    if pixels is None:
        raise bad_data(what, path, 'it is no readable image')
    return pixels


def bad_data(what: str, path: str | None, problem: str) -> BadDataError:
    """The error for one file."""
    return BadDataError(f"SemiDataset: the {what} '{path}' cannot be used: {problem}. Repair it or "
                        "take it from the list; on_error='skip' of the SemiDataset leaves such "
                        'images out')
