"""How good pseudo labels are, counted against the truth."""
from __future__ import annotations

import dataclasses
import math
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional import dynamic_soft_label, nearest
from .look import MASS, Look

SCHEMA = 1


class PseudoLabelAudit:
    """Counts over any number of images; memory does not grow with them.

    ``counts`` are tensors on the CPU, int64 but for two sums in float64: add them up over several
    audits (of several processes, say) and the sum is the audit of all their images.

    Args:
        num_classes: C.
        num_parts: K, or None: parts are not audited.
        bins: of the calibration error, equally wide, (0, 1/bins] to (1 - 1/bins, 1].
        mass: the paper's eta, with which the looks were made; for the record.
        confidence: the paper's zeta; ``coverage`` is what exceeds it.
        part_mask: ``(C, K)`` bool, the parts in use (None: all), by which entropies are normalised.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, num_classes: int, num_parts: int | None = None, bins: int = 15,
                 mass: float = MASS, confidence: float = 0.95, part_mask: Tensor | None = None):
        for name, size in dict(num_classes=num_classes, num_parts=num_parts, bins=bins).items():
            if size is not None and size < 1:
                raise ValueError(f'PseudoLabelAudit: {name} must be at least 1, got {size}')
        self.num_classes, self.num_parts, self.bins = num_classes, num_parts, bins
        self.mass, self.confidence = mass, confidence
        self.part_mask = None if part_mask is None else part_mask.cpu()

        def zeros(*shape, dtype=torch.int64):
            return torch.zeros(shape, dtype=dtype)

        self.counts: dict[str, Tensor] = dict(
            images=zeros(1),
            confusion=zeros(num_classes, num_classes),  # true class, class that is called
            covered=zeros(num_classes),  # called so with more confidence than zeta
            soft_hits=zeros(num_classes),  # true class is dominant
            soft_mass=zeros(num_classes, dtype=torch.float64),
            dominant=zeros(3),  # 1, 2, 3 or more dominant classes
            bin_pixels=zeros(num_classes, bins),  # called class, bin of the confidence
            bin_right=zeros(num_classes, bins),
            bin_confidence=zeros(num_classes, bins, dtype=torch.float64))
        if num_parts is not None:
            self.counts.update(part_pixels=zeros(num_classes, num_parts),
                               part_right=zeros(num_classes, num_parts))

    def update(self, look: Look, truth: Tensor) -> None:
        """Count the pixels of B images.

        Args:
            look: of :func:`mmseg_esl.looks.look`, at the resolution of ``truth`` (see
                :func:`resized`); with the parts by its argmax.
            truth: ``(B, H, W)`` long on any device; pixels outside [0, C) are left out.

        Raises:
            ValueError: truth has another shape than the look; the look has another number of
                classes, or no parts, which were to be counted.
        """
        if truth.shape != look.classes.shape:
            raise ValueError(f'the truth has shape {tuple(truth.shape)}, the classes '
                             f'{tuple(look.classes.shape)}')
        if look.probs.shape[1] != self.num_classes:
            raise ValueError(f'the look is of {look.probs.shape[1]} classes, the audit of '
                             f'{self.num_classes}')
        if self.num_parts is not None and look.parts is None:
            raise ValueError(f'num_parts={self.num_parts}, but the look has no parts')
        truth = truth.to(look.classes.device)
        known = (truth >= 0) & (truth < self.num_classes)
        likely = look.target.gather(1, torch.where(known, truth, 0)[:, None])[:, 0] > 0

        def at_known(x):  # counting happens on the CPU, where it is exact and deterministic
            return x[known].cpu()

        true, called, confidence = map(at_known, (truth, look.classes, look.confidence))
        right, sure = called == true, confidence > self.confidence
        self.counts['images'] += len(truth)
        self._count('confusion', true * self.num_classes + called)
        self._count('covered', called[sure])
        self._count('soft_hits', true[at_known(likely)])
        for target, inside in zip(look.target, known):
            self.counts['soft_mass'] += target[:, inside].sum(dim=1, dtype=torch.float64).cpu()
        self._count('dominant', at_known(look.size).clamp(max=3) - 1)
        edges = torch.linspace(0, 1, self.bins + 1, dtype=torch.float64)[1:-1]
        bins = called * self.bins + torch.bucketize(confidence.double(), edges)
        self._count('bin_pixels', bins)
        self._count('bin_right', bins[right])
        self._count('bin_confidence', bins, confidence.double())
        if self.num_parts is not None:
            parts = at_known(look.parts)
            own = parts.div(self.num_parts, rounding_mode='floor') == true
            self._count('part_pixels', parts[parts >= 0])
            self._count('part_right', parts[own])

    def _count(self, name: str, index: Tensor, weights: Tensor | None = None) -> None:
        total = self.counts[name]
        total += torch.bincount(index, weights, minlength=total.numel()).view_as(total)

    def merge(self, other: PseudoLabelAudit) -> None:
        """Add what another audit has counted.

        Raises:
            ValueError: it was made with other arguments.
        """
        for key in ('num_classes', 'num_parts', 'bins', 'mass', 'confidence'):
            mine, theirs = getattr(self, key), getattr(other, key)
            if mine != theirs:
                raise ValueError(f'audits of {key}={mine} and {key}={theirs} do not add up')
        for name, total in self.counts.items():
            total += other.counts[name]

    def result(self, classes: Sequence[str], iteration: int | None = None) -> dict:
        """The audit as plain numbers, lists and dicts; None where there is nothing to divide by.

        All shares are in [0, 1], of the pixels whose true class is known. Overall and, in
        ``per_class``, for each class c:

        - ``precision``: of the pixels that the network calls c, the share that is c; ``recall``:
          of those that are c, the share that it calls so.
        - ``coverage``: of the pixels called c, the share whose confidence (largest probability)
          exceeds ``confidence``: what a threshold would keep.
        - ``ece``: expected calibration error of the confidence, sum over the bins of (share of
          the pixels in the bin) * abs(accuracy - mean confidence there); per class over the pixels
          called c.
        - ``hard_accuracy``: the argmax is the true class (per true class: the recall);
          ``soft_hit_rate``: the true class is among the dominant ones (paper Sec. 3.2).
        - ``hard_share``, ``soft_share``, ``true_share``: how the classes share out the hard labels,
          the soft labels' mass and the truth (paper Fig. 7b).
        - ``dominant``: share of the pixels with 1, 2 and 3 or more dominant classes.

        ``parts`` (None without them; paper Sec. 3.3): a part is its class's as the network calls
        it. ``usage``: how a class's K parts share out its pixels; ``entropy`` of that, over the log
        of the number of its parts in use (None for a single one); ``part_purity`` and ``purity``:
        of the pixels in a part, or in all of a class's, the share whose true class is that class.
        The paper defines no such figures: they are our choice.

        Args:
            classes: C names.
            iteration: for the record.

        Raises:
            ValueError: not C names.
        """
        if len(classes) != self.num_classes:
            raise ValueError(f'{len(classes)} class names for {self.num_classes} classes: '
                             f'{list(classes)}')
        counts = {name: total.double() for name, total in self.counts.items()}
        confusion = counts['confusion']
        right, true, called = confusion.diag(), confusion.sum(dim=1), confusion.sum(dim=0)
        pixels = confusion.sum()
        gaps = (counts['bin_right'] - counts['bin_confidence']).abs().sum(dim=1)
        overall = (counts['bin_right'] - counts['bin_confidence']).sum(dim=0).abs().sum()
        recall, soft_hits = right / true, counts['soft_hits']
        return {
            'schema': SCHEMA, 'iter': iteration, 'images': int(counts['images']),
            'pixels': int(pixels), 'classes': [str(name) for name in classes],
            'num_parts': self.num_parts, 'mass': self.mass, 'confidence': self.confidence,
            'hard_accuracy': to_python(right.sum() / pixels),
            'soft_hit_rate': to_python(soft_hits.sum() / pixels),
            'ece': to_python(overall / pixels),
            'dominant': dict(zip(('1', '2', '3+'), to_python(counts['dominant'] / pixels))),
            'per_class': {
                'precision': to_python(right / called), 'recall': to_python(recall),
                'coverage': to_python(counts['covered'] / called), 'ece': to_python(gaps / called),
                'hard_accuracy': to_python(recall), 'soft_hit_rate': to_python(soft_hits / true),
                'hard_share': to_python(called / pixels),
                'soft_share': to_python(counts['soft_mass'] / pixels),
                'true_share': to_python(true / pixels)},
            'parts': None if self.num_parts is None else _part_figures(
                counts['part_pixels'], counts['part_right'], self.part_mask)}


def _part_figures(pixels: Tensor, right: Tensor, mask: Tensor | None) -> dict:
    """Of ``(C, K)`` counts; mask ``(C, K)`` bool or None: the parts in use."""
    usage = pixels / pixels.sum(dim=1, keepdim=True)
    in_use = torch.ones_like(pixels) if mask is None else mask.to(pixels)
    most = in_use.sum(dim=1).log()  # 0, and so 0 / 0, for a single part
    entropy = torch.special.entr(usage).sum(dim=1) / most
    return dict(usage=to_python(usage), entropy=to_python(entropy),
                purity=to_python(right.sum(dim=1) / pixels.sum(dim=1)),
                part_purity=to_python(right / pixels))


def to_python(x: Tensor):
    """Nested lists of floats, None where they are not finite: JSON knows no NaN."""
    def swap(value):
        if isinstance(value, list):
            return [swap(v) for v in value]
        return value if math.isfinite(value) else None

    return swap(x.tolist())


def resized(look: Look, size: tuple[int, int], *, mass: float,
            area: tuple[int, int] | None = None, align_corners: bool = False) -> Look:
    """What a network sees, at the resolution of a label map.

    Logits are resized as mmseg's evaluation does (log-probabilities are logits but for a number
    per pixel, which the softmax takes out again), parts by their nearest neighbour. Encoder and
    embedding are left out.

    Args:
        look: of images that are padded at most at the right and bottom.
        size: (H, W) of the label map.
        mass: the paper's eta.
        area: (height, width) of the image without padding, None: all of it.
        align_corners: of the bilinear resize.
    """
    whole = tuple(look.classes.shape[-2:])
    height, width = area or whole
    if (height, width) == tuple(size) == whole:
        return look
    probs = look.probs[..., :height, :width]
    if (height, width) != tuple(size):
        logits = probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
        probs = F.interpolate(logits, size=tuple(size), mode='bilinear',
                              align_corners=align_corners).softmax(dim=1)
    confidence, classes = probs.max(dim=1)
    target, label_size = dynamic_soft_label(probs, mass=mass)
    parts = look.parts
    if parts is not None:
        parts = nearest(parts[..., :height, :width], size, align_corners)
    return dataclasses.replace(
        look, probs=probs, classes=classes, confidence=confidence, target=target, size=label_size,
        grouped=nearest(look.grouped[..., :height, :width], size, align_corners), parts=parts,
        encoder=None, embedding=None)
