"""The pixel-to-part contrast of a batch (ESL, ICCV 2023, Sec. 3.3)."""
from __future__ import annotations

import torch
from torch import Tensor

from ..functional import (
    assign_parts,
    at_least_float,
    nearest,
    part_contrast,
    part_seeds,
    part_sums,
    sample_anchors,
)
from ..functional.phases import phase


class PixelToPart:
    """Assign parts, push their features, sample anchors, stage the prototypes' update.

    Args:
        model: a method with a ``part_memory`` (:class:`PartMemory`) and ESL's keys in its ``cfg``.
    """

    def __init__(self, model):
        self.model, self.memory, self.cfg = model, model.part_memory, model.cfg

    @phase('contrast')
    def loss(self, teacher, z: Tensor, classes: Tensor, confidence: Tensor, strong, batch,
             draws) -> Tensor:
        """L_CTR.

        Args:
            teacher: View of the weak images of the batch, with encoder and embedding.
            z: ``(B, L, h, w)`` student's embeddings of labelled and strong images.
            classes: ``(B, H, W)`` long, of the weak views; -1 where unknown.
            confidence: ``(B_u, H, W)`` teacher's largest probability.
            strong: the Strong view. batch: the Batch.
            draws: numbers keyed by image (ImageDraws), or None.
        """
        num, size, memory, cfg = batch.num_labeled, z.shape[-2:], self.memory, self.cfg
        corners = self.model.align_corners
        with torch.autocast(classes.device.type, enabled=False):
            with torch.no_grad():
                parts = self._group(teacher, classes, size, batch)
                sure = nearest(confidence, size, corners) > cfg.confidence
                anchors = torch.where(parts >= 0, nearest(classes, size, corners), -1)
                anchors[num:] = torch.where(sure, anchors[num:], -1)
                anchors[num:] = strong.mix(anchors[num:], align_corners=corners)
                parts[num:] = strong.mix(parts[num:], align_corners=corners)
                index, chosen, positives = self._sample(anchors, draws)
            area = size[0] * size[1]
            image, pixel = index.div(area, rounding_mode='floor'), index % area
            loss, used = part_contrast(
                at_least_float(z.flatten(2)[image, :, pixel]),  # (A, L), of anchors only
                anchors.flatten()[index].clamp(min=0), parts.flatten()[index], chosen,
                memory.queue, memory.filled, memory.num_classes,
                num_negatives=cfg.num_negatives, temperature=cfg.temperature,
                negatives=cfg.negatives, divisor=self.model.divisor, positive_draw=positives,
                generator=None if draws is None else draws.negatives())
        self.model.diagnostics.add('anchors', used)
        return loss

    def _sample(self, classes: Tensor, draws):
        """Anchors among ``(B, h, w)`` classes: see sample_anchors; and draws of their positives."""
        groups, num, keys, positives = classes, self.memory.num_classes, None, None
        if draws is not None:  # a quota for each class of each image
            keys, positives = draws.pixels(classes[0].numel())
            image = torch.arange(len(classes), device=classes.device)[:, None, None]
            groups, num = torch.where(classes >= 0, classes + image * num, -1), num * len(classes)
        index, chosen = sample_anchors(groups.flatten(), num, keys=keys,
                                       fraction=self.cfg.anchor_fraction,
                                       limit=self.cfg.max_anchors)
        return index, chosen, None if positives is None else positives[index]

    @phase('parts')
    def _group(self, teacher, classes: Tensor, size, batch) -> Tensor:
        """Parts ``(B, h, w)`` of the weak views; their features go to the memory."""
        model, memory, corners = self.model, self.memory, self.model.align_corners
        seeds = None
        if memory.lacking:
            coarse = nearest(classes, teacher.encoder.shape[-2:], corners)
            seeds = part_seeds(teacher.encoder, coarse, memory.prototypes, memory.usable)
        if self.cfg.part_resolution == 'embedding':
            classes = nearest(classes, size, corners)
        parts = assign_parts(teacher.encoder, classes, memory.prototypes, align_corners=corners,
                             mask=memory.usable)
        feats = part_sums(teacher.encoder, parts, memory.num_queues, align_corners=corners)
        embeds = part_sums(teacher.embedding, parts, memory.num_queues, align_corners=corners)
        model.watch.images('part features of image', feats[0], batch.samples)
        model.watch.images('part embeddings of image', embeds[0], batch.samples)
        memory.stage(*embeds, *feats, num_labeled=batch.num_labeled, seeds=seeds)
        present = feats[1].sum(dim=0).view(memory.num_classes, -1) > 0
        model.diagnostics.add('parts_used', present.sum(dim=1))
        return nearest(parts, size, corners)
