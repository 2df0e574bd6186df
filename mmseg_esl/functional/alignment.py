"""Predictions whose classes are as frequent as they should be."""
from __future__ import annotations

import torch
from torch import Tensor


def align_classes(probs: Tensor, wanted: Tensor, found: Tensor, *, strength: float = 1.0,
                  limit: float = 10.0) -> Tensor:
    """Distribution alignment (ReMixMatch, Berthelot et al., ICLR 2020, Sec. 3.1), of pixels.

    p'_c is proportional to p_c (wanted_c / found_c)^strength. A teacher that names a class too
    seldom teaches a student that names it still more seldom; this turns the wheel back.

    Args:
        probs: ``(N, C, H, W)`` float, summing to 1 over C.
        wanted: ``(C,)`` shares of the classes among labelled pixels, >= 0; any scale.
        found: ``(C,)`` shares that the teacher gives them on unlabelled images.
        strength: 0 changes nothing, 1 is the paper's.
        limit: the quotient is kept within [1 / limit, limit] (our choice: a class that was hardly
            met yet must not jump).

    Returns:
        like ``probs``. Where nothing is known of a share (all 0), nothing changes.
    """
    shares = [share / share.sum().clamp(min=1e-12) for share in (wanted, found)]
    known = (wanted.sum() > 0) & (found.sum() > 0)
    quotient = ((shares[0] + 1e-6) / (shares[1] + 1e-6)).clamp(1 / limit, limit) ** strength
    factor = torch.where(known, quotient, torch.ones_like(quotient)).to(probs.dtype)
    moved = probs * factor[None, :, None, None]
    return moved / moved.sum(dim=1, keepdim=True)
