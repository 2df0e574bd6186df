"""The method's pieces as one writes them down from the paper, without a thought for speed."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_label_loss(probs: Tensor, logits: Tensor, valid: Tensor, mass: float = 0.95) -> Tensor:
    """Dynamic soft label and L_SCE (paper Sec. 3.2). Shapes: as in functional/soft_label.py."""
    with torch.no_grad():
        ordered = probs.sort(dim=1, descending=True).values
        number = (ordered.cumsum(dim=1) < mass).sum(dim=1, keepdim=True) + 1  # C*
        delta = ordered.gather(1, number.clamp(max=probs.shape[1]) - 1)
        target = torch.where(probs >= delta, probs, 0.0)
        target = target / target.sum(dim=1, keepdim=True)
    return soft_cross_entropy(logits, target, valid)


def soft_cross_entropy(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1)[valid].mean()


@torch.no_grad()
def prototype_step(features: Tensor, labels: Tensor, prototypes: Tensor,
                   momentum: float = 0.99) -> Tensor:
    """Resize E^t to the labels, assign, average over each part's mask, update (Sec. 3.3).

    Args:
        features: ``(B, D, h', w')``; labels ``(B, h, w)`` long, -1 = none;
        prototypes: ``(C, K, D)``.

    Returns:
        new prototypes ``(C, K, D)``.
    """
    classes, parts, width = prototypes.shape
    resized = F.interpolate(features, size=labels.shape[-2:], mode='bilinear')
    cosine = torch.einsum('bdhw,ckd->bckhw', F.normalize(resized, dim=1),
                          F.normalize(prototypes, dim=2))
    own = labels.clamp(min=0)[:, None, None].expand(-1, 1, parts, -1, -1)
    part = cosine.gather(1, own)[:, 0].argmax(dim=1) + labels * parts
    known = labels >= 0
    mask = F.one_hot(part[known], classes * parts).to(resized)  # M
    sums = mask.T @ resized.permute(0, 2, 3, 1)[known]
    counts = mask.sum(dim=0)
    present = counts > 0
    new = prototypes.flatten(0, 1).clone()
    mean = sums[present] / counts[present][:, None]
    new[present] = momentum * new[present] + (1 - momentum) * mean
    return new.view_as(prototypes)


def contrast(embedding: Tensor, classes: Tensor, parts: Tensor, queue: Tensor, filled: Tensor,
             num_classes: int, *, fraction: float = 0.1, num: int = 255,
             temperature: float = 0.5) -> Tensor:
    """L_CTR with draws for each anchor, class by class (Sec. 3.3).

    Args:
        embedding: ``(B, L, h, w)``; classes ``(B, h, w)``, -1 = no candidate; parts ``(B, h, w)``.
        queue: ``(N, S, L)``; filled ``(N,)``.
    """
    pixels = embedding.permute(0, 2, 3, 1).flatten(0, 2)
    classes, parts = classes.flatten(), parts.flatten()
    exists = torch.arange(queue.shape[1], device=queue.device) < filled[:, None]
    owner, slot = exists.nonzero().unbind(dim=1)
    total = 0.0
    for c in range(num_classes):
        candidates = (classes == c).nonzero()[:, 0]
        if len(candidates) == 0:
            continue
        order = torch.randperm(len(candidates), device=candidates.device)
        anchors = candidates[order[:max(1, round(fraction * len(candidates)))]]
        losses = []
        for part in parts[anchors].unique():
            mine = anchors[parts[anchors] == part]
            own, others = (owner == part).nonzero()[:, 0], (owner != part).nonzero()[:, 0]
            if len(own) == 0 or len(others) == 0:
                continue
            yes = own[torch.randint(len(own), (len(mine),), device=own.device)]
            no = others[torch.randint(len(others), (len(mine), num), device=own.device)]
            losses.append(info_nce(pixels[mine], queue[owner[yes], slot[yes]],
                                   queue[owner[no], slot[no]], temperature))
        if losses:
            total = total + torch.cat(losses).mean()
    return total / num_classes


def info_nce(anchors: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """anchors, positive ``(A, L)``, negatives ``(A, n, L)`` -> losses ``(A,)``."""
    keys = torch.cat([positive[:, None], negatives], dim=1)
    scores = F.cosine_similarity(anchors[:, None], keys, dim=2) / temperature
    return -F.log_softmax(scores, dim=1)[:, 0]


@torch.no_grad()
def ema(teacher: torch.nn.Module, student: torch.nn.Module, momentum: float) -> None:
    """Parameters and buffers, tensor by tensor."""
    theirs = student.state_dict()
    for name, mine in teacher.state_dict().items():
        if mine.is_floating_point():
            mine.mul_(momentum).add_(theirs[name], alpha=1 - momentum)
        else:
            mine.copy_(theirs[name])
