"""A label map for images that have no label."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
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
