"""Masks as files: class indices, colours, or painted over the image."""
from __future__ import annotations

from functools import partial

import mmcv
import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from ..storage.atomic import atomic_file


class Overlay(SegLocalVisualizer):
    """mmseg's visualiser, without its detours: the same pictures in less time.

    The stock one hands each picture to matplotlib, and sorts the coordinates of all pixels as a
    Python list to place a class name.
    """

    def set_image(self, image: np.ndarray) -> None:
        self.drawn = image

    def add_image(self, *args, **kwargs) -> None:
        """There is no backend to show it to."""

    def _get_center_loc(self, mask: np.ndarray) -> np.ndarray:
        row = (mask == 1).sum(axis=1).argmax()
        columns = np.flatnonzero(mask[row] == 1)
        return np.array([columns[len(columns) // 2], row])


class Painter:
    """Makes the picture of one kind.

    Args:
        classes, palette: names, and RGB colours in 0..255, one per class.
        opacity: of the colours in an overlay, in (0, 1].
        read: gives the image of a path, ``(H, W, 3)`` RGB, as the one that was predicted: turned
            or not.
    """

    def __init__(self, classes, palette, opacity: float = 0.5, read=None) -> None:
        self.read = read or partial(mmcv.imread, channel_order='rgb')
        self.palette = np.asarray(palette, dtype=np.uint8)
        self.overlay = Overlay(alpha=opacity)
        self.overlay.dataset_meta = dict(classes=classes, palette=palette)

    def __call__(self, kind: str, mask: np.ndarray, path: str) -> Image.Image:
        """Draw ``mask``, ``(H, W)`` int class indices of the image at ``path``.

        Args:
            kind: 'index': class indices, 8 bits with the palette, 16 bits beyond 256 classes;
                'color': the palette's colours; 'overlay': these over the image, with names, by
                mmseg's visualiser.

        Raises:
            ValueError: an overlay over an image of another size than the mask's.
        """
        if kind == 'index':
            return self._index(mask)
        if kind == 'color':
            return Image.fromarray(self.palette[mask])
        image = self.read(path)
        if image.shape[:2] != mask.shape:
            raise ValueError(f"the mask of '{path}' is {mask.shape}, the image "
                             f'{image.shape[:2]}: leave the overlay out')
        sample = SegDataSample(pred_sem_seg=PixelData(data=torch.from_numpy(mask)[None]))
        self.overlay.add_datasample('', image, sample, draw_gt=False)
        return Image.fromarray(self.overlay.drawn)

    def _index(self, mask: np.ndarray) -> Image.Image:
        if len(self.palette) > 256:
            return Image.fromarray(mask.astype(np.uint16))
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.putpalette(self.palette.tobytes())
        return picture


def save(picture: Image.Image, path) -> None:
    """Write a PNG file that is there completely or not at all."""
    with atomic_file(path) as file:
        picture.save(file, format='PNG')
