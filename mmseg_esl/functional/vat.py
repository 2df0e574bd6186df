"""Virtual adversarial noise on features (Miyato et al., TPAMI 2018)."""
from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .cutmix import nearest
from .precision import at_least_float


def vat_noise(decode: Callable[[Tensor], Tensor], features: Tensor, *, xi: float = 0.1,
              radius: float = 2.0, valid: Tensor | None = None,
              align_corners: bool = False, generator: torch.Generator | None = None) -> Tensor:
    """The noise of a given length that changes each image's prediction most, by one power step.

    From a random direction d it takes the gradient of KL(decode(features) || decode(features +
    xi d)) with respect to d. No gradient is left in what ``decode`` is made of: it asks for that of
    d alone. Computed in float32 at least, outside of autocast.

    CCT's and PS-MT's code have ``xi`` = 1e-6, at which the gradient is smaller than the 1e-8 that
    is added to its length, and in float32 mere rounding: the noise is then some 0.001 long instead
    of 2 and points nowhere. 0.1 is our choice.

    Args:
        decode: ``(B, D, h, w)`` -> logits ``(B, C, h', w')``, each image by itself.
        features: ``(B, D, h, w)``; no gradient goes there.
        xi: length of the trial step, positive.
        radius: L2 length of an image's noise.
        valid: ``(B, H, W)`` bool, pixels whose prediction counts; brought to (h', w') by nearest.
            None: all, as in the releases, where padding has a say in the direction.
        align_corners: of the network's bilinear resizes.
        generator: of the features' device; the default one if None.

    Returns:
        ``(B, D, h, w)`` of the features' dtype; 0 for an image whose prediction does not depend on
        d.
    """
    with torch.autocast(features.device.type, enabled=False), torch.enable_grad():
        still = at_least_float(features.detach())
        with torch.no_grad():
            wanted = decode(still).softmax(dim=1)
        draw = torch.rand(still.shape, dtype=still.dtype, device=still.device, generator=generator)
        direction = _unit(draw - 0.5).requires_grad_()
        changed = decode(still + xi * direction).log_softmax(dim=1)
        distance = F.kl_div(changed, wanted, reduction='none').sum(dim=1)
        if valid is not None:
            there = nearest(valid, distance.shape[-2:], align_corners)
            distance = torch.where(there, distance, 0.0)
        distance = distance.sum() / len(distance)
        slope, = torch.autograd.grad(distance, direction)
        return (radius * _unit(slope)).to(features.dtype)


def _unit(x: Tensor) -> Tensor:
    """Each image's ``(D, h, w)`` divided by its length."""
    return x / (x.flatten(1).norm(dim=1) + 1e-8).view(-1, *[1] * (x.dim() - 1))
