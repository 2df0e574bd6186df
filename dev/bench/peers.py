"""The shape of two peers' algorithms, written anew from their descriptions.

What is kept is what decides their speed: loops over the classes in Python, pixels chosen by
boolean masks, sizes read on the host. Where their settings differ from ESL's, the docstring says
so; where there was a choice, it is in the peer's favour.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MemoryBankContrast:
    """U2PL's contrast: 256 anchors a class against the class's mean and 50 bank entries each.

    A class's anchors are its pixels of which the network is not yet sure; its bank holds pixels
    that are not of the class although it is among their likely ones. Here the bank stays on the
    device (U2PL keeps it on the host) and holds 2048 entries a class (U2PL: 30000), so that
    enqueueing copies less.

    Args:
        bank: one tensor ``(n, L)`` per class.
    """
    queries, negatives, temperature, size = 256, 50, 0.5, 2048
    sure, first_rank, last_rank = 0.3, 3, 20

    def __init__(self, bank: list[Tensor]):
        self.bank = bank

    def __call__(self, embedding: Tensor, teacher_embedding: Tensor, classes: Tensor,
                 probs: Tensor) -> Tensor:
        """embedding, teacher_embedding ``(B, L, h, w)``, classes ``(B, h, w)`` with -1 = none,
        probs ``(B, C, h, w)``; returns the mean over the classes that are present."""
        student = embedding.permute(0, 2, 3, 1)
        teacher = teacher_embedding.permute(0, 2, 3, 1)
        likely = probs.argsort(dim=1, descending=True)[:, self.first_rank:self.last_rank]
        anchors, means, present = [], [], []
        for c in range(probs.shape[1]):
            own = classes == c
            hard = own & (probs[:, c] > self.sure)
            confusable = (likely == c).any(dim=1) & ~own & (classes >= 0)
            self.enqueue(c, teacher[confusable].detach())
            if own.sum().item() > 0:
                anchors.append(student[hard])
                means.append(teacher[own].mean(dim=0, keepdim=True).detach())
                present.append(c)
        loss = embedding.sum() * 0.0
        for c, candidates, mean in zip(present, anchors, means):
            if len(candidates) == 0 or len(self.bank[c]) == 0:
                continue
            draw = torch.randint(len(candidates), (self.queries,), device=mean.device)
            anchor = candidates[draw]
            with torch.no_grad():
                draw = torch.randint(len(self.bank[c]), (self.queries * self.negatives,),
                                     device=mean.device)
                negative = self.bank[c][draw].view(self.queries, self.negatives, -1)
                keys = torch.cat([mean.expand(self.queries, 1, -1), negative], dim=1)
            scores = F.cosine_similarity(anchor[:, None], keys, dim=2) / self.temperature
            target = torch.zeros(self.queries, dtype=torch.long, device=mean.device)
            loss = loss + F.cross_entropy(scores, target)
        return loss / max(len(present), 1)

    def enqueue(self, c: int, keys: Tensor) -> None:
        self.bank[c] = torch.cat([self.bank[c], keys])[-self.size:]


@torch.no_grad()
def prototype_loop(features: Tensor, labels: Tensor, prototypes: Tensor, momentum: float = 0.999,
                   sinkhorn: int = 3) -> Tensor:
    """ProtoSeg's prototype step: class by class, unit features and unit prototypes.

    Args:
        features: ``(B, D, h', w')``, resized to the labels here; labels ``(B, h, w)``, -1 = none.
        prototypes: ``(C, K, D)``, unit vectors.
        sinkhorn: rounds of the balanced assignment (ProtoSeg); 0 takes the nearest prototype
            (ESL), which is less work.

    Returns:
        new unit prototypes ``(C, K, D)``.
    """
    if features.shape[-2:] != labels.shape[-2:]:
        features = F.interpolate(features, size=labels.shape[-2:], mode='bilinear')
    pixels, flat = features.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
    new = prototypes.clone()
    for c in range(len(prototypes)):
        own = flat == c
        if own.sum().item() == 0:
            continue
        mine = F.normalize(pixels[own], dim=1)
        cosine = mine @ prototypes[c].T
        shares = balance(cosine, sinkhorn) if sinkhorn else cosine
        mask = F.one_hot(shares.argmax(dim=1), len(prototypes[c])).to(mine)
        sums, counts = mask.T @ mine, mask.sum(dim=0)
        if counts.sum().item() > 0:
            used = counts > 0
            mean = F.normalize(sums, dim=1)
            new[c, used] = momentum * new[c, used] + (1 - momentum) * mean[used]
    return F.normalize(new, dim=2)


def balance(cosine: Tensor, rounds: int, sharpness: float = 0.05) -> Tensor:
    """Sinkhorn-Knopp: shares ``(n, K)`` such that all K columns weigh about the same."""
    shares = (cosine / sharpness).exp()
    for _ in range(rounds):
        shares = shares / shares.sum(dim=0, keepdim=True)
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares


def ema_loop(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """U2PL's average: new storage for every parameter, buffers left alone."""
    for mine, theirs in zip(teacher.parameters(), student.parameters()):
        mine.data = momentum * mine.data + (1 - momentum) * theirs.data
