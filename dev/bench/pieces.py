"""The pieces of ``mmseg_esl/functional`` against the naive reading and the peers' algorithms."""
from __future__ import annotations

import statistics
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from mmseg_esl import functional as esl

from . import naive, peers
from .measuring import Work, alternate, measure


@dataclass(frozen=True)
class Setting:
    """Of one row: C, K, crop, images; the widths are those of R50 and the paper's projector."""
    classes: int = 21
    parts: int = 5
    crop: int = 513
    images: int = 2
    encoder: int = 2048
    width: int = 512
    queue: int = 256
    negatives: int = 255


BASE, QUICK_CROP = Setting(), 193
CLASSES, PARTS, CROPS, IMAGES = (2, 19, 21, 81), (1, 5, 10), (192, 321, 513, 769), (1, 2, 4, 8)


def sweep(base: Setting, **axes) -> list[Setting]:
    """Vary one axis at a time around ``base``, which stands once."""
    rows = [replace(base, **{key: value}) for key, values in axes.items() for value in values]
    return list(dict.fromkeys(chain(rows, [base])))


def coarse(size: int, stride: int) -> int:
    """Side of the map at a stride, as convolutions with padding make it."""
    return -(-size // stride)


def maps(s: Setting, size: int, gen: torch.Generator, device):
    """Labels ``(B, h, w)`` in patches, a tenth of the columns -1, and probabilities
    ``(B, C, h, w)`` that are sharp within a patch and soft between patches."""
    score = 8 * torch.randn(s.images, s.classes, 12, 12, generator=gen)
    score = F.interpolate(score, size=size, mode='bilinear').to(device)
    labels = score.argmax(dim=1)
    labels[..., -max(1, size // 10):] = -1
    return labels, score.softmax(dim=1)


# ------------------------------------------------------------------------------- one per piece


def soft_label(s: Setting, device: str) -> dict[str, Work]:
    gen = torch.Generator().manual_seed(0)
    labels, probs = maps(s, s.crop, gen, device)
    logits = torch.randn(probs.shape, generator=gen).to(device).requires_grad_()
    valid = labels >= 0

    def ours():
        with torch.no_grad():
            target, _ = esl.dynamic_soft_label(probs, mass=0.95)
        return esl.soft_cross_entropy(logits, target, valid)

    return {'ours': Work(ours, [logits]),
            'naive': Work(lambda: naive.soft_label_loss(probs, logits, valid), [logits])}


def prototypes(s: Setting, device: str) -> dict[str, Work]:
    """Encoder features are half as large as the labels, as in the model."""
    return _prototypes(s, s.encoder, coarse(s.crop, 8), device)


def prototypes_same_size(s: Setting, device: str) -> dict[str, Work]:
    """Features that have the labels' size already: nothing is gained by resizing cleverly."""
    return _prototypes(s, s.width, coarse(s.crop, 4), device)


def _prototypes(s: Setting, width: int, side: int, device: str) -> dict[str, Work]:
    gen = torch.Generator().manual_seed(0)
    labels, _ = maps(s, coarse(s.crop, 4), gen, device)
    features = torch.randn(s.images, width, side, side, generator=gen).to(device)
    start = torch.randn(s.classes, s.parts, width, generator=gen).to(device)
    unit = F.normalize(start, dim=2)
    return {
        'ours': Work(lambda: prototype_step(features, labels, start)),
        'naive': Work(lambda: naive.prototype_step(features, labels, start)),
        'ProtoSeg-shaped': Work(lambda: peers.prototype_loop(features, labels, unit)),
        'ProtoSeg-shaped, nearest': Work(
            lambda: peers.prototype_loop(features, labels, unit, sinkhorn=0))}


@torch.no_grad()
def prototype_step(features, labels, old):
    """Assignment, sums and update, as models/pixel_to_part.py puts them together."""
    parts = esl.assign_parts(features, labels, old)
    sums, counts = esl.part_sums(features, parts, old.shape[0] * old.shape[1])
    return esl.update_prototypes(old, sums.sum(dim=0), counts.sum(dim=0))


def contrast(s: Setting, device: str) -> dict[str, Work]:
    gen = torch.Generator().manual_seed(0)
    side = coarse(s.crop, 4)
    classes, probs = maps(s, side, gen, device)
    embedding = torch.randn(s.images, s.width, side, side, generator=gen).to(device)
    embedding.requires_grad_()
    queue = torch.randn(s.classes * s.parts, s.queue + 1, s.width, generator=gen).to(device)
    filled = torch.full((len(queue),), s.queue, device=device)
    part = torch.randint(s.parts, classes.shape, generator=gen).to(device)
    part = torch.where(classes >= 0, classes * s.parts + part, -1)

    def ours(negatives='shared'):
        index, chosen = esl.sample_anchors(classes.flatten(), s.classes)
        flat = embedding.permute(0, 2, 3, 1).flatten(0, 2)
        loss, _ = esl.part_contrast(
            flat[index], classes.flatten()[index].clamp(min=0), part.flatten()[index], chosen,
            queue, filled, s.classes, num_negatives=s.negatives, negatives=negatives)
        return loss

    teacher = embedding.detach().clone()
    narrow = embedding.detach()[:, :s.width // 2].clone().requires_grad_()

    def peer(student, view):
        bank = [queue[c * s.parts:(c + 1) * s.parts, :s.queue, :view.shape[1]].flatten(0, 1)
                for c in range(s.classes)]
        bank = [rows.repeat(-(-peers.MemoryBankContrast.size // len(rows)), 1)
                [:peers.MemoryBankContrast.size] for rows in bank]
        bank = peers.MemoryBankContrast(bank)
        return Work(lambda: bank(student, view, classes, probs), [student])

    return {
        'ours': Work(ours, [embedding]),
        "ours, negatives='independent'": Work(lambda: ours('independent'), [embedding]),
        'naive': Work(lambda: naive.contrast(
            embedding, classes, part, queue, filled, s.classes, num=s.negatives), [embedding]),
        'U2PL-shaped': peer(embedding, teacher),
        'U2PL-shaped, half as wide': peer(narrow, teacher[:, :s.width // 2].clone())}


def ema(student: nn.Module, device: str) -> dict[str, Work]:
    student = deepcopy(student).to(device)
    ours, plain, peer = (deepcopy(student).requires_grad_(False) for _ in range(3))
    return {'ours': Work(lambda: esl.ema_update(ours, student, 0.99)),
            'naive': Work(lambda: naive.ema(plain, student, 0.99)),
            'U2PL-shaped': Work(lambda: peers.ema_loop(peer, student, 0.99))}


# ------------------------------------------------------------------------------- all of them

PIECES = {'soft label and its loss': (soft_label, ('classes', 'crop')),
          'prototype step': (prototypes, ('classes', 'parts', 'crop')),
          'prototype step, equal sizes': (prototypes_same_size, ()),
          'part contrast': (contrast, ('classes', 'parts', 'crop'))}


def run(device: str, rounds: int, quick: bool, segmentor: nn.Module, say=print) -> Iterator[dict]:
    """Rows ``dict(piece, setting, base, contenders)``; ``base`` where nothing is varied."""
    axes = dict(classes=CLASSES, parts=PARTS, crop=CROPS)
    base = BASE
    if quick:
        axes, base = dict(classes=(2,), parts=(10,), crop=(97,)), replace(BASE, crop=QUICK_CROP)
    say('EMA')
    yield dict(piece='EMA', setting={}, base=True,
               contenders=measure(ema(segmentor, device), rounds))
    for piece, (build, varied) in PIECES.items():
        for setting in sweep(base, **{key: axes[key] for key in varied}):
            say(f'{piece}: {setting.classes} classes, {setting.parts} parts, crop {setting.crop}')
            yield dict(piece=piece, setting=vars(setting), base=setting == base,
                       contenders=measure(build(setting, device), rounds))


def growth(device: str, rounds: int, quick: bool, say=print) -> Iterator[dict]:
    """Rows ``dict(piece, images, seconds)``: our pieces against the number of images."""
    base = replace(BASE, crop=QUICK_CROP) if quick else BASE
    for piece, (build, _) in PIECES.items():
        for images in IMAGES[:3] if quick else IMAGES:
            say(f'{piece}: {images} images')
            work = build(replace(base, images=images), device)['ours']
            times = alternate({'ours': work}, rounds)['ours']
            yield dict(piece=piece, images=images, seconds=statistics.median(times))
