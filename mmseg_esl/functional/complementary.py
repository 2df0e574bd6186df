"""Two views of the same images that lose complementary channels (UniMatch V2)."""
from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor


def complementary_masks(num: int, channels: int, clean: Tensor, *, device=None,
                        generator: torch.Generator | None = None) -> Tensor:
    """Factors of the channels of two views: 0 or 2 in the first, 2 minus that in the second.

    So each channel shows in one view, doubled, and the mean of both is the feature itself.

    Args:
        num: images N of a view. channels: D.
        clean: ``(N,)`` bool, images that lose nothing in either view: factors 1.
        device: where to draw. generator: of that device; the default one if None.

    Returns:
        ``(2, N, D)`` float32 in {0, 1, 2}.
    """
    first = 2.0 * (torch.rand(num, channels, device=device, generator=generator) < 0.5)
    return torch.stack([first, 2 - first]).masked_fill(clean[:, None], 1.0)


def complementary_dropout(feats: Sequence[Tensor], *, clean_share: float = 0.5,
                          generator: torch.Generator | None = None) -> list[Tensor]:
    """Complementary channel dropout of an encoder's features.

    Levels of the same width share their masks, as the levels of a plain vision transformer do in
    the release; levels of another width, those of a ResNet, have a pair of their own (its authors'
    advice). Which images stay clean is drawn once, for all levels.

    Args:
        feats: one ``(2N, D, h, w)`` a level: the first views of N images, then the second ones.
        clean_share: int(share * N) images, a random choice, lose nothing; in [0, 1].
        generator: of the features' device; the default one if None.

    Returns:
        list like ``feats``.

    Raises:
        ValueError: ``clean_share`` outside [0, 1].
    """
    if not 0 <= clean_share <= 1:
        raise ValueError(f'clean_share must be in [0, 1], got {clean_share}')
    num, draw = len(feats[0]) // 2, dict(device=feats[0].device, generator=generator)
    # the ranks of uniform numbers: a random order, drawn on the device
    clean = torch.rand(num, **draw).argsort().argsort() < int(clean_share * num)
    masks, out = {}, []
    for level in feats:
        width = level.shape[1]
        if width not in masks:
            masks[width] = complementary_masks(num, width, clean, **draw).flatten(0, 1)
        out.append(level * masks[width].to(level.dtype)[:, :, None, None])
    return out
