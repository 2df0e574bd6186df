"""A label map for images that have no label, crops for rare classes, and the evaluated crop."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform, CenterCrop
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadEmptyAnnotations(BaseTransform):
    """Give an unlabelled image a label map of zeros. Opens no file (our choice).

    The map rides through the same geometric transforms as the image and is padded with 255 like
    every label map, so what arrives in the batch says which pixels are real: 0 is a pixel of the
    image, 255 is padding.

    Reads ``img`` (H, W, ...) or, without it, ``img_shape``; adds ``gt_seg_map`` (H, W) uint8 and
    its name in ``seg_fields``; removes ``seg_map_path``.

    Raises:
        KeyError: no image has been loaded yet.
    """

    def transform(self, results: dict) -> dict:
        if 'img' in results:
            height, width = results['img'].shape[:2]
        elif 'img_shape' in results:
            height, width = results['img_shape'][:2]
        else:
            raise KeyError('LoadEmptyAnnotations found neither img nor img_shape: put '
                           "dict(type='LoadImageFromFile') before it in the pipeline")
        results.pop('seg_map_path', None)
        results['gt_seg_map'] = np.zeros((height, width), dtype=np.uint8)
        fields = [name for name in results.get('seg_fields', []) if name != 'gt_seg_map']
        results['seg_fields'] = fields + ['gt_seg_map']
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class EvaluatedCenterCrop(CenterCrop):
    """Evaluate the centre of an image alone, as the paper does on VOC (513 x 513).

    mmcv's CenterCrop, but the crop counts as the whole image (``ori_shape``): mmseg would stretch
    the prediction to the size of the image that was cropped. Where an image is smaller than the
    crop, right and bottom are filled with the mean colour of ImageNet, as mmseg's preprocessor
    fills training crops, and with 255 in the label map, so that they do not count (our choice: the
    paper says no more than 'centre crop').

    To be put behind LoadAnnotations. Changes ``img``, ``gt_seg_map``, ``img_shape``, ``ori_shape``
    and ``pad_shape``.

    Args:
        crop_size: (W, H), or one number for both.
    """

    def __init__(self, crop_size) -> None:
        super().__init__(
            tuple(crop_size) if isinstance(crop_size, (list, tuple)) else crop_size, auto_pad=True,
            pad_cfg=dict(type='Pad', pad_val=dict(img=(104, 116, 124), seg=255)))  # BGR

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        results['ori_shape'] = results['img_shape']
        return results


@TRANSFORMS.register_module()
class RareClassCrop(RandomCrop):
    """mmseg's RandomCrop, but some crops hold a class that is drawn first, each one alike.

    A bicycle fills 0.2 % of a street: few random crops show one. With probability ``prob`` one of
    the image's classes is drawn, then one of its pixels, then a crop that holds that pixel, all
    uniformly. After DAFormer's rare class sampling (Hoyer et al., CVPR 2022, Sec. 3.2), which draws
    images so; without its list of shares (our choice). For labelled images. No gain is
    measured so far (docs/results/recipe.md). Opens no file, reads ``img`` and ``gt_seg_map``.

    Args:
        crop_size: (H, W). prob: in [0, 1].
        cat_max_ratio, ignore_index: as RandomCrop's.

    Raises:
        ValueError: ``prob`` outside [0, 1].
    """

    def __init__(self, crop_size, prob: float = 0.5, **kwargs) -> None:
        super().__init__(crop_size, **kwargs)
        if not 0 <= prob <= 1:
            raise ValueError(f'prob of RareClassCrop must be in [0, 1], got {prob}')
        self.prob = prob

    @cache_randomness
    def crop_bbox(self, results: dict) -> tuple:
        box = super().crop_bbox(results)
        if np.random.rand() >= self.prob:
            return box
        labels = results['gt_seg_map']
        present = np.flatnonzero(np.bincount(labels.ravel()))
        present = present[present != self.ignore_index]
        if not len(present):
            return box
        pixels = np.flatnonzero(labels == np.random.choice(present))
        pixel = np.unravel_index(np.random.choice(pixels), labels.shape)
        (top, bottom), (left, right) = (
            self._around(*axis) for axis in zip(pixel, labels.shape, self.crop_size))
        return top, bottom, left, right

    @staticmethod
    def _around(place: int, length: int, size: int) -> tuple:
        first = np.random.randint(max(0, place - size + 1), min(place, max(0, length - size)) + 1)
        return first, first + size

    def __repr__(self) -> str:
        return f'{type(self).__name__}(crop_size={self.crop_size}, prob={self.prob})'
