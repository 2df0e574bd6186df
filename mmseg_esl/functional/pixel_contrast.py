"""A contrast of pixels of two views of one image, with debiased negatives (after PC2Seg)."""
from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import at_least_float

NEVER = -1e9  # logarithm of the weight of what does not count: finite, so that gradients are


def lend_pixels(valid: Tensor, num: int, *, draws: Tensor | None = None,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Pixels that each image lends as negatives, drawn with replacement from its valid ones.

    Args:
        valid: ``(N, P)`` bool. num: M, pixels of an image.
        draws: ``(N, M)`` float64 in [0, 1), each image's own; drawn if None.
        generator: of the tensor's device.

    Returns:
        index ``(N, M)`` long in [0, P), and lends ``(N,)`` bool (False: nothing is valid, and the
        numbers mean nothing).
    """
    if draws is None:
        draws = torch.rand(len(valid), num, dtype=torch.float64, device=valid.device,
                          generator=generator)
    count = valid.sum(dim=1)
    place = (draws * count[:, None]).long() + 1  # among the valid ones, from 1
    index = torch.searchsorted(valid.cumsum(dim=1), place)
    return index.clamp(max=valid.size(1) - 1), count > 0


def other_class(probs: Tensor, keys: Tensor) -> Tensor:
    """Chance that two pixels are of different classes: 1 - sum_c p_i,c p_j,c, in [0, 1].

    Args:
        probs: ``(..., P, C)``. keys: ``(K, C)``.

    Returns:
        ``(..., P, K)``.
    """
    return (1 - probs @ keys.T).clamp(min=0)  # rounding may bring the sum above 1


def weighted_info_nce(anchors: Tensor, positives: Tensor, keys: Tensor, weight: Tensor, *,
                      temperature: float) -> Tensor:
    """-log(e^{s+} / (e^{s+} + sum_j w_j e^{s_j})) of each anchor, s = cosine / temperature.

    Args:
        anchors: ``(..., P, L)``, of which gradients are taken. positives: like them.
        keys: ``(K, L)``. weight: ``(..., P, K)`` >= 0; without any above 0 the loss is 0.

    Returns:
        ``(..., P)``.
    """
    anchors = F.normalize(anchors, dim=-1, eps=1e-6)
    best = (anchors * F.normalize(positives, dim=-1)).sum(dim=-1) / temperature
    scores = anchors @ F.normalize(keys, dim=-1).T / temperature
    logs = torch.where(weight > 0, weight.log(), NEVER)
    return F.softplus((scores + logs).logsumexp(dim=-1) - best)


def pixel_contrast(embeddings: Tensor, weak: Tensor, probs: Tensor, valid: Tensor, *,
                   num_negatives: int = 200, temperature: float = 0.1, other_images: bool = True,
                   debias: str = 'weighting', draws: Tensor | None = None,
                   divisor: Callable[[Tensor], Tensor] | None = None,
                   generator: torch.Generator | None = None) -> Tensor:
    """Mean over valid pixels of InfoNCE against the same pixel of the weak view.

    Each image lends as many of its pixels, so that an anchor has ``num_negatives`` or a few more;
    all anchors share what is lent.

    Args:
        embeddings: ``(N, L, h, w)`` of the strong views (gradients flow here only).
        weak: like them, of the weak views: positives and negatives.
        probs: ``(N, C, h, w)`` probabilities of the weak views.
        valid: ``(N, h, w)`` bool; others are neither anchor, positive nor negative.
        num_negatives: K. temperature: tau, > 0.
        other_images: negatives are of other images alone; False: any pixel but the anchor's.
        debias: 'weighting' multiplies a negative by the chance that it is of another class,
            'sampling' keeps it with that chance, 'none' keeps it.
        draws: ``(N, M)``, see :func:`lend_pixels`, M = K / (N - 1) or K / N, rounded up.
        divisor: turns the count of valid pixels into the divisor; None: the count, at least 1.
        generator: of the tensors' device, for what is drawn.

    Returns:
        scalar >= 0, in float32 at least; without negatives a zero that is still connected.

    Raises:
        ValueError: unknown ``debias``.
    """
    if debias not in ('weighting', 'sampling', 'none'):
        raise ValueError(f"debias must be 'weighting', 'sampling' or 'none', got {debias!r}")
    num, channels = len(embeddings), embeddings.size(1)
    with torch.autocast(embeddings.device.type, enabled=False):
        anchors, weak, probs = (at_least_float(x).flatten(2).transpose(1, 2)  # (N, P, ...)
                                for x in (embeddings, weak.detach(), probs.detach()))
        flat = valid.flatten(1)
        per_image = -(-num_negatives // max(1, num - int(other_images)))
        index, lends = lend_pixels(flat, per_image, draws=draws, generator=generator)
        keys = weak.gather(1, index[..., None].expand(-1, -1, channels)).flatten(0, 1)
        labels = probs.gather(1, index[..., None].expand(-1, -1, probs.size(2))).flatten(0, 1)
        with torch.no_grad():
            image = torch.arange(num, device=index.device)
            lender = image[:, None].expand(-1, per_image).flatten()
            allowed = (image[:, None, None] != lender) if other_images else (
                (image[:, None, None] != lender)
                | (torch.arange(flat.size(1), device=index.device)[:, None] != index.flatten()))
            weight = other_class(probs, labels) if debias != 'none' else torch.ones_like(allowed)
            if debias == 'sampling':
                weight = torch.rand(weight.shape, dtype=weight.dtype, device=weight.device,
                                    generator=generator) < weight
            weight = torch.where(allowed & lends[lender], weight, 0.0).to(anchors.dtype)
        loss = weighted_info_nce(anchors, weak, keys, weight.expand(-1, flat.size(1), -1),
                                 temperature=temperature)
    count = valid.sum()
    count = count.clamp(min=1) if divisor is None else divisor(count)
    return torch.where(flat, loss, 0.0).sum() / count
