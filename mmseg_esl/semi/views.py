"""Strong views: colours (if any), then CutMix; the same boxes for all that belongs to pixels."""
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..functional import (
    cutmix_mask,
    cutmix_masks_beta,
    cutmix_masks_by_image,
    cutmix_masks_xor,
    mix,
)


@dataclass(frozen=True)
class Strong:
    """A strong view of B_u unlabelled images.

    Args:
        images: ``(B_u, 3, H, W)``, normalised. boxes: ``(B_u, H, W)`` bool, True where the next
            image shows. group: images among which 'the next' goes round (None: all).
    """
    images: Tensor
    boxes: Tensor
    group: int | None = None

    def mix(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """What belongs to the weak views' pixels ``(B_u, ..., h, w)``, mixed as they were.

        Args:
            inside: what the boxes are filled from, like ``x`` (None: ``x``).
        """
        return mix(x, self.boxes, group=self.group, inside=inside)


def strong_view(weak: Tensor, cfg, draws, colours: nn.Module | None,
                preprocessor: nn.Module) -> Strong:
    """Boxes are drawn, then colours of each image, then CutMix by the boxes.

    Args:
        weak: ``(B_u, 3, H, W)`` as ``preprocessor`` has normalised them.
        cfg: SemiTrainCfg. draws: ImageDraws, or None for torch's generators.
        colours: takes and gives RGB images in [0, 1] without moving pixels; None: none.
    """
    size, num, prob, area = tuple(weak.shape[-2:]), len(weak), cfg.cutmix_prob, cfg.cutmix_area
    if draws is not None:
        boxes = draws.cutmix(size, prob, area)
    elif cfg.cutmix == 'image':
        boxes = cutmix_masks_by_image(num, size, prob=prob, device=weak.device)
    elif cfg.cutmix == 'aspect':
        boxes = cutmix_masks_xor(num, size, boxes=1, share=(area, area), device=weak.device)
    elif cfg.cutmix == 'three':
        boxes = cutmix_masks_xor(num, size, device=weak.device)
    elif cfg.cutmix == 'beta':
        boxes = cutmix_masks_beta(num, size, device=weak.device)
    else:
        boxes = cutmix_mask(num, size, area=area, prob=prob, device=weak.device)
    group = 2 if cfg.sampling == 'image' and num % 2 == 0 else None
    return Strong(mix(coloured(weak, colours, preprocessor), boxes, group=group), boxes, group)


def coloured(images: Tensor, colours: nn.Module | None, preprocessor: nn.Module) -> Tensor:
    """Normalised images ``(B, 3, H, W)`` in other colours; as they are if there are none."""
    if colours is None:
        return images
    mean, std = (preprocessor.mean, preprocessor.std) if preprocessor._enable_normalize \
        else (0.0, 1.0)
    return (colours((images * std + mean) / 255) * 255 - mean) / std
