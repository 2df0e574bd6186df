"""A label map for images that have no label, and the crop that the paper evaluates."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform, CenterCrop
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
