"""What a network makes of images, and strong views of them: colours (if any), then CutMix."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..functional import (
    cutmix_mask,
    cutmix_masks_beta,
    cutmix_masks_by_image,
    cutmix_masks_xor,
    mix,
)
from ..functional.phases import phase


@dataclass
class View:
    """What one network makes of B images of H x W.

    Args:
        logits: ``(B, C, H, W)``.
        embedding: ``(B, L, h, w)``, what ``project`` made of the tapped features, or None.
        encoder: ``(B, D, h', w')``, last stage of the backbone, or None if not asked for.
    """
    logits: Tensor
    embedding: Tensor | None = None
    encoder: Tensor | None = None


@dataclass(frozen=True)
class Strong:
    """A strong view of B_u unlabelled images.

    Args:
        images: ``(B_u, 3, H, W)``, normalised. boxes: ``(B_u, H, W)`` bool, True where the next
            image shows. group: images among which 'the next' goes round (None: all). partner:
            ``(B_u,)`` long, the images that show instead of the next ones (None: those).
    """
    images: Tensor
    boxes: Tensor
    group: int | None = None
    partner: Tensor | None = None

    def mix(self, x: Tensor, inside: Tensor | None = None,
            align_corners: bool = False) -> Tensor:
        """What belongs to the weak views' pixels ``(B_u, ..., h, w)``, mixed as they were.

        Args:
            inside: what the boxes are filled from, like ``x`` (None: ``x``).
            align_corners: of the bilinear resize that lies between the images and (h, w).
        """
        return mix(x, self.boxes, group=self.group, inside=inside, partner=self.partner,
                   align_corners=align_corners)


@phase('strong view')
def strong_view(weak: Tensor, cfg, draws, colours: nn.Module | None,
                preprocessor: nn.Module) -> Strong:
    """Boxes are drawn, then colours of each image, then CutMix by the boxes.

    Args:
        weak: ``(B_u, 3, H, W)`` as ``preprocessor`` has normalised them.
        cfg: SemiTrainCfg. draws: ImageDraws, or None for torch's generators.
        colours, preprocessor: see :func:`recolour`.
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
    flip = cfg.cutmix_partner == 'flip' and group is None  # in a pair both are the same
    partner = torch.arange(num, device=weak.device).flip(0) if flip else None
    weak = recolour(weak, colours, preprocessor)
    return Strong(mix(weak, boxes, group=group, partner=partner), boxes, group, partner)


def recolour(images: Tensor, colours: nn.Module | None, preprocessor: nn.Module) -> Tensor:
    """Images ``(B, 3, H, W)`` as ``preprocessor`` has normalised them, in other colours.

    Args:
        colours: takes and gives RGB images in [0, 1] without moving pixels; None: none.
    """
    if colours is None:
        return images
    mean, std = (preprocessor.mean, preprocessor.std) if preprocessor._enable_normalize \
        else (0.0, 1.0)
    return (colours((images * std + mean) / 255) * 255 - mean) / std


def check_rgb(colours: nn.Module, images: Tensor) -> None:
    """Raise ValueError if a strong view of colours is asked of other images than RGB."""
    if images.shape[1] != 3:
        raise ValueError(f'{type(colours).__name__} changes the colours of RGB images, and these '
                         f'have {images.shape[1]} channels: set model.strong_view=None, or give '
                         'one of your own')
