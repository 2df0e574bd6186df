"""Adaptive label injection: labelled patches for images that the teacher is unsure of (AugSeg)."""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .cutmix import _boxes
from .precision import at_least_float


def image_certainty(logits: Tensor, valid: Tensor) -> Tensor:
    """How sure a prediction is, per image: the mean of (1 - H(p) / ln C) max p over valid pixels.

    Args:
        logits: ``(N, C, H, W)``, C >= 2. valid: ``(N, H, W)`` bool.

    Returns:
        ``(N,)`` float32 at least, in [0, 1]: 0 of uniform p, 1 of one-hot p, 0 without a valid
        pixel.
    """
    log_probs = at_least_float(logits.detach()).log_softmax(dim=1)
    probs = log_probs.exp()
    relative = -(probs * log_probs).sum(dim=1) / math.log(logits.shape[1])
    sure = torch.where(valid, (1 - relative) * probs.amax(dim=1), 0.0)
    return sure.flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1).clamp(min=1)


def centred_boxes(num: int, share: float, size: tuple[int, int], *, device=None,
                  generator: torch.Generator | None = None) -> Tensor:
    """Boxes of one size around random centres, cut off at the image's edge (the release's law).

    Args:
        num: boxes N. share: of the area, before they are cut off, in [0, 1].
        size: (H, W); a centre's row is uniform from H // 8 on, its column from W // 8 on.
        device: where the boxes are wanted. generator: CPU generator; the default one if None.

    Returns:
        ``(N, H, W)`` bool.
    """
    corners = []
    for side in size:
        half = int(side * share ** 0.5) // 2
        centre = torch.randint(side // 8, side, (num,), generator=generator)
        corners += [(centre - half).clamp(min=0), (centre + half).clamp(max=side)]
    return _boxes(torch.stack(corners).float(), size, device)


@dataclass(frozen=True)
class Injection:
    """Whatever belongs to pixels, with labelled patches, then mixed within the batch.

    Args:
        patches: ``(N, H, W)`` bool, where an image, before it is mixed, shows its labelled partner.
        boxes: ``(N, H, W)`` bool, where an image shows its partner, patch included.
        partner: ``(N,)`` long, a permutation: the partner among unlabelled images; among M labelled
            ones it is taken modulo M (our choice; the release has M = N).
    """
    patches: Tensor
    boxes: Tensor
    partner: Tensor

    def mix(self, x: Tensor, labeled: Tensor) -> Tensor:
        """``x (N, ..., H, W)`` of unlabelled images and ``labeled (M, ..., H, W)``, like ``x``."""
        patches, boxes = (m.view(len(m), *[1] * (x.dim() - 3), *m.shape[1:])
                          for m in (self.patches, self.boxes))
        injected = torch.where(patches, labeled[self.partner % len(labeled)], x)
        return torch.where(boxes, injected[self.partner], x)


def draw_injection(certainty: Tensor, size: tuple[int, int], *,
                   generator: torch.Generator | None = None) -> Injection:
    """Draw patches, boxes and partners; an image gets a patch with probability 1 - certainty.

    The patches' share of the area is 1 - Beta(8, 2), the boxes' 1 - Beta(4, 4), one draw each for
    all images; 0.2 and 0.5 on average. Drawn on the host, but for what certainty decides.

    Args:
        certainty: ``(N,)`` in [0, 1], on the device that the images are on.
        size: (H, W) in pixels. generator: CPU generator; the default one if None.
    """
    num, device = len(certainty), certainty.device
    # of a + b - 1 uniform numbers the a-th smallest is Beta(a, b)
    keep, stay = (sorted(torch.rand(n, generator=generator).tolist())[a - 1]
                  for a, n in ((8, 9), (4, 7)))
    partner = torch.randperm(num, generator=generator).to(device, non_blocking=True)
    chance = torch.rand(num, generator=generator).to(device, non_blocking=True)
    patches, boxes = (centred_boxes(num, 1 - share, size, device=device, generator=generator)
                      for share in (keep, stay))
    return Injection(patches & (chance >= certainty)[:, None, None], boxes, partner)
