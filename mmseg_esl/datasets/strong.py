"""The strong augmentation of ST++ as transforms of a pipeline, for sets that want their own."""
from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageEnhance, ImageFilter


@TRANSFORMS.register_module()
class StrongColours(BaseTransform):
    """Colour jitter, grey and blur, in this order; labels are not touched (ST++'s code).

    Changes ``img``, ``(H, W, 3)`` uint8 BGR. Random numbers are numpy's.

    Args:
        jitter: brightness, contrast and saturation change by factors in 1 ± value, the hue by a
            share of the circle in ± value; in random order, as torchvision's ColorJitter.
        jitter_prob, grey_prob, blur_prob: of an image.
        blur_sigma: range of the blur's standard deviation in pixels.
    """

    def __init__(self, jitter=(0.5, 0.5, 0.5, 0.25), jitter_prob: float = 0.8,
                 grey_prob: float = 0.2, blur_prob: float = 0.5, blur_sigma=(0.1, 2.0)) -> None:
        self.jitter, self.blur_sigma = tuple(jitter), tuple(blur_sigma)
        self.jitter_prob, self.grey_prob, self.blur_prob = jitter_prob, grey_prob, blur_prob

    def transform(self, results: dict) -> dict:
        image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))
        if np.random.rand() < self.jitter_prob:
            image = self._jittered(image)
        if np.random.rand() < self.grey_prob:
            image = image.convert('L').convert('RGB')
        if np.random.rand() < self.blur_prob:
            image = image.filter(ImageFilter.GaussianBlur(np.random.uniform(*self.blur_sigma)))
        results['img'] = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        return results

    def _jittered(self, image: Image.Image) -> Image.Image:
        enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for which in np.random.permutation(4):
            if not self.jitter[which]:  # the way to HSV and back rounds
                continue
            change = np.random.uniform(-self.jitter[which], self.jitter[which])
            if which < 3:
                image = enhance[which](image).enhance(max(0.0, 1 + change))
            else:
                image = _turn_hue(image, change)
        return image

    def __repr__(self) -> str:
        return (f'StrongColours(jitter={self.jitter}, jitter_prob={self.jitter_prob}, grey_prob='
                f'{self.grey_prob}, blur_prob={self.blur_prob}, blur_sigma={self.blur_sigma})')


def _turn_hue(image: Image.Image, share: float) -> Image.Image:
    hue, saturation, value = image.convert('HSV').split()
    turned = (np.asarray(hue).astype(np.int64) + int(share * 255)) % 256
    return Image.merge('HSV', (Image.fromarray(turned.astype(np.uint8)), saturation,
                               value)).convert('RGB')


@TRANSFORMS.register_module()
class NoiseCutOut(BaseTransform):
    """Fill one box with noise and ignore it in the label map (ST++'s Cutout, as its code has it).

    Changes ``img``, ``(H, W, 3)`` uint8, and ``gt_seg_map`` in the box: 255. To be put behind what
    blurs. Random numbers are numpy's.

    Args:
        prob: of an image.
        area: range of the box's share of the image.
        ratio: range of its height over its width. A box that does not fit is drawn again.
    """

    def __init__(self, prob: float = 0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)) -> None:
        self.prob, self.area, self.ratio = prob, tuple(area), tuple(ratio)

    def transform(self, results: dict) -> dict:
        if np.random.rand() >= self.prob:
            return results
        image, label = results['img'].copy(), results['gt_seg_map'].copy()
        box = self._box(*image.shape[:2])
        image[box] = np.random.randint(0, 256, image[box].shape, dtype=np.uint8)
        label[box] = 255
        results.update(img=image, gt_seg_map=label)
        return results

    def _box(self, height: int, width: int) -> tuple:
        while True:
            size = np.random.uniform(*self.area) * height * width
            ratio = np.random.uniform(*self.ratio)
            tall, wide = int(np.sqrt(size * ratio)), int(np.sqrt(size / ratio))
            top, left = np.random.randint(height), np.random.randint(width)
            if top + tall <= height and left + wide <= width:
                return slice(top, top + tall), slice(left, left + wide)

    def __repr__(self) -> str:
        return f'NoiseCutOut(prob={self.prob}, area={self.area}, ratio={self.ratio})'
