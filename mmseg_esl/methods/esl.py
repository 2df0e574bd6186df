"""ESL: one training step, in the order of the paper (Sec. 3, Eq. 11)."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..functional import (
    assign_parts,
    at_least_float,
    dynamic_soft_label,
    hard_label,
    nearest,
    part_contrast,
    part_sums,
    sample_anchors,
    soft_cross_entropy,
    topk_soft_label,
)
from ..functional.phases import phase
from ..models.image_draws import ImageDraws
from ..semi.teacher_student import SemiTrainCfg, TeacherStudentSegmentor, View, connected_zero

LABELS = ('dsl', 'hard', 'topk')
PADDING = 255  # what mmseg pads label maps with, LoadEmptyAnnotations' too


@dataclass
class ESLTrainCfg(SemiTrainCfg):
    """Keys of ESL's ``semi_train_cfg``; the defaults are the paper's unless called our choice.

    Args:
        variant: 'dsl+ctr' is ESL. 'sup' trains on the labelled images alone; 'dsl', 'hard', 'topk'
            name the pseudo label, '+ctr' adds the pixel-to-part contrast.
        mass: eta of the dynamic soft label.
        topk: k of the fixed top-k label.
        sce_weight, ctr_weight: lambda_1 and lambda_2.
        confidence: zeta, at least 0.5, so that an unlabelled pixel is anchor of one class only.
        anchor_fraction: share of the candidate pixels that become anchors.
        max_anchors: most anchors of a class (None: no cap, the paper's method).
        num_negatives, temperature: of InfoNCE.
        negatives: 'shared' (our choice) or 'independent' draws, see functional.part_contrast.
        part_resolution: 'embedding' groups parts at the projector's resolution (our choice),
            'image' reads the paper literally.

    Under gradient accumulation the contrast, unlike all other terms, is not that of the large
    batch: queues fill between micro-batches, each averages its own anchors (docs/scaling.md).
    """
    variant: str = 'dsl+ctr'
    mass: float = 0.95
    topk: int = 5
    sce_weight: float = 0.2
    ctr_weight: float = 0.1
    confidence: float = 0.95
    anchor_fraction: float = 0.1
    max_anchors: int | None = None
    num_negatives: int = 255
    temperature: float = 0.5
    negatives: str = 'shared'
    part_resolution: str = 'embedding'

    def __post_init__(self):
        super().__post_init__()
        self.label, _, contrast = self.variant.partition('+')
        known = ['sup', *LABELS, *(f'{name}+ctr' for name in LABELS)]
        if self.variant not in known:
            raise ValueError(f'semi_train_cfg.variant must be one of {known}, got {self.variant!r}')
        self.contrast = bool(contrast)
        for key in ('mass', 'confidence', 'anchor_fraction'):
            self.check_share(key)
        for key in ('mass', 'anchor_fraction', 'temperature', 'topk', 'num_negatives'):
            if getattr(self, key) <= 0:
                raise ValueError(f'semi_train_cfg.{key} must be positive, got {getattr(self, key)}')
        if self.confidence < 0.5:
            raise ValueError('semi_train_cfg.confidence (zeta) must be at least 0.5, or a pixel '
                             f'could be anchor of two classes; got {self.confidence}')
        if self.part_resolution not in ('embedding', 'image'):
            raise ValueError("semi_train_cfg.part_resolution must be 'embedding' or 'image', got "
                             f'{self.part_resolution!r}')
        if self.negatives not in ('shared', 'independent'):
            raise ValueError("semi_train_cfg.negatives must be 'shared' or 'independent', got "
                             f'{self.negatives!r}')
        if self.sampling == 'image' and self.contrast and self.negatives == 'independent':
            raise ValueError("semi_train_cfg.sampling='image' has one draw of negatives per part: "
                             "set negatives='shared', or sampling='batch'")


@MODELS.register_module()
class ESL(TeacherStudentSegmentor):
    """Enhanced Soft Label training of any EncoderDecoder.

    Args:
        part_memory: config of :class:`PartMemory` (num_parts, queue_length, momentum); used by
            the '+ctr' variants, as is ``projector``.
        projector, others: see :class:`TeacherStudentSegmentor`;
            ``semi_train_cfg``: :class:`ESLTrainCfg`.
    """
    cfg_class = ESLTrainCfg

    def __init__(self, segmentor: dict, projector: dict | None = None,
                 part_memory: dict | None = None, semi_train_cfg: dict | None = None, **kwargs):
        contrast = self._parse_cfg(semi_train_cfg or {}).contrast
        projector = {'type': 'ESLProjector', **(projector or {})} if contrast else None
        super().__init__(segmentor, projector, semi_train_cfg=semi_train_cfg, **kwargs)
        self.part_memory = None
        if contrast:
            self.part_memory = MODELS.build({
                'type': 'PartMemory', **(part_memory or {}), 'num_classes': self.num_classes,
                'feat_channels': self.probe_encoder(),
                'embed_channels': self.projector.out_channels})

    def loss(self, inputs: Tensor, data_samples) -> dict[str, Tensor]:
        """One step on ``(B_l + B_u, 3, H, W)`` weak views, labelled first.

        Returns:
            mmseg's supervised losses, ``loss_sce`` and ``loss_ctr`` (as weighted).
        """
        num, ramp = self.split(data_samples), self.ramp()
        self.check_driven()
        labeled, weak, samples = inputs[:num], inputs[num:], data_samples[:num]
        self.watch.images('input image', inputs, data_samples)
        if self.semi_cfg.label == 'sup' or ramp == 0 or not len(weak):
            # A single labelled image would leave batch norm after global pooling with one value:
            # in the warm-up the weak views keep it company (a 'sup' run has no such help).
            company = weak if num == 1 and self.semi_cfg.label != 'sup' else weak[:0]
            losses, _ = self.student_views(labeled, company, samples)
            if self.projector is not None:
                losses['loss_ctr'] = connected_zero(self.projector)
            return losses

        labels = torch.stack([s.gt_sem_seg.data[0] for s in data_samples])  # (B, H, W)
        contrast = self.semi_cfg.contrast and self._contrast_ready()
        # Labelled images pass the teacher for their parts only.
        teacher = self.teacher_view(inputs if contrast else weak, contrast, num_logits=len(weak))
        draws = self.image_draws(num, len(weak), inputs.device)
        with torch.no_grad():
            self.watch.images('teacher logits of image', teacher.logits, data_samples[num:])
            probs = at_least_float(teacher.logits).softmax(dim=1)
            teacher.logits = None  # large, and no longer needed
            valid = labels[num:] != PADDING  # the head may ignore something else
            target, size = self._soft_label(probs)
            confidence, pseudo = probs.max(dim=1)
            self._log_soft_label(size, confidence, valid)
            mask = self.draw_mix(weak) if draws is None else draws.cutmix(
                tuple(weak.shape[-2:]), self.semi_cfg.cutmix_prob, self.semi_cfg.cutmix_area)
            strong = self.strengthen(weak, mask)
            del probs
            target = self.mix(target, mask)

        losses, student = self.student_views(labeled, strong, samples)
        with phase('soft cross entropy'):
            losses['loss_sce'] = ramp * self.semi_cfg.sce_weight * soft_cross_entropy(
                student.logits, target, self.mix(valid, mask), divisor=self.divisor)
        if contrast:
            known = torch.where(labels[:num] == self.ignore_index, -1, labels[:num])
            pseudo = torch.where(valid, pseudo, -1)
            losses['loss_ctr'] = ramp * self.semi_cfg.ctr_weight * self._contrast(
                teacher, student, torch.cat([known, pseudo]), confidence, mask, data_samples, draws)
        elif self.projector is not None:
            losses['loss_ctr'] = connected_zero(self.projector)
        return losses

    @phase('soft label')
    def _soft_label(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        if self.semi_cfg.label == 'hard':
            return hard_label(probs)
        if self.semi_cfg.label == 'topk':
            return topk_soft_label(probs, k=self.semi_cfg.topk)
        return dynamic_soft_label(probs, mass=self.semi_cfg.mass)

    def _contrast_ready(self) -> bool:
        if self.part_memory.active is None:
            raise RuntimeError('nobody initialises the part prototypes: add '
                               "dict(type='PartInitHook') to custom_hooks, or train variant 'dsl'")
        return self.part_memory.active

    @phase('contrast')
    def _contrast(self, teacher: View, student: View, classes: Tensor, confidence: Tensor,
                  mask: Tensor, samples, draws: ImageDraws | None) -> Tensor:
        """L_CTR (paper Sec. 3.3): assign, push, sample, then stage the prototypes' update.

        Args:
            classes: ``(B, H, W)`` ground truth, or the teacher's argmax, or -1.
            confidence: ``(B_u, H, W)`` teacher's largest probability.
            mask: ``(B_u, H, W)`` CutMix boxes.
            samples: the B data samples. draws: numbers keyed by image, or None.
        """
        num = len(classes) - len(confidence)
        with torch.autocast(classes.device.type, enabled=False):
            size = student.embedding.shape[-2:]
            with torch.no_grad():
                parts = self._group(teacher, classes, size, num, samples)
                sure = nearest(confidence, size) > self.semi_cfg.confidence
                low = nearest(classes, size)
                anchor_class = torch.where(parts >= 0, low, -1)
                anchor_class[num:] = torch.where(sure, anchor_class[num:], -1)
                anchor_class[num:] = self.mix(anchor_class[num:], mask)
                parts[num:] = self.mix(parts[num:], mask)
                index, chosen, lots = self._anchors(anchor_class, draws)
            memory, area = self.part_memory, size[0] * size[1]
            image, pixel = index.div(area, rounding_mode='floor'), index % area
            embedding = student.embedding.flatten(2)[image, :, pixel]  # (A, L), of anchors only
            loss, used = part_contrast(
                at_least_float(embedding), anchor_class.flatten()[index].clamp(min=0),
                parts.flatten()[index],
                chosen, memory.queue, memory.filled, self.num_classes,
                num_negatives=self.semi_cfg.num_negatives, temperature=self.semi_cfg.temperature,
                negatives=self.semi_cfg.negatives, divisor=self.divisor, positive_draw=lots,
                generator=None if draws is None else draws.negatives())
        self.diagnostics.add('anchors', used)
        return loss

    def _anchors(self, classes: Tensor, draws: ImageDraws | None):
        """Anchors among ``(B, h, w)`` classes: see sample_anchors; and lots of their positives."""
        groups, num, keys, lots = classes, self.num_classes, None, None
        if draws is not None:  # a quota for each class of each image
            keys, lots = draws.pixels(classes[0].numel())
            image = torch.arange(len(classes), device=classes.device)[:, None, None]
            groups, num = torch.where(classes >= 0, classes + image * num, -1), num * len(classes)
        index, chosen = sample_anchors(groups.flatten(), num, keys=keys,
                                       fraction=self.semi_cfg.anchor_fraction,
                                       limit=self.semi_cfg.max_anchors)
        return index, chosen, None if lots is None else lots[index]

    @phase('parts')
    def _group(self, teacher: View, classes: Tensor, size, num: int, samples) -> Tensor:
        """Parts ``(B, h, w)`` of the weak views; their features go to the memory."""
        memory, corners = self.part_memory, self.align_corners
        if self.semi_cfg.part_resolution == 'embedding':
            classes = nearest(classes, size)
        parts = assign_parts(teacher.encoder, classes, memory.prototypes, align_corners=corners,
                             mask=memory.part_mask)
        feats = part_sums(teacher.encoder, parts, memory.num_queues, align_corners=corners)
        embeds = part_sums(teacher.embedding, parts, memory.num_queues, align_corners=corners)
        self.watch.images('part features of image', feats[0], samples)
        self.watch.images('part embeddings of image', embeds[0], samples)
        memory.stage(*embeds, *feats, num_labeled=num)
        present = feats[1].sum(dim=0).view(self.num_classes, -1) > 0
        self.diagnostics.add('parts_used', present.sum(dim=1))
        return nearest(parts, size)

    def _log_soft_label(self, size: Tensor, confidence: Tensor, valid: Tensor) -> None:
        total = valid.sum().clamp(min=1)

        def mean(x):
            return (x * valid).sum() / total

        self.diagnostics.add('dominant/1', mean(size == 1))
        self.diagnostics.add('dominant/2', mean(size == 2))
        self.diagnostics.add('dominant/3+', mean(size >= 3))
        self.diagnostics.add('dominant/mean', mean(size))
        self.diagnostics.add('confidence', mean(confidence))

    def after_optimizer_step(self, step: int, momentum: float) -> float:
        if self.part_memory is not None:
            self.part_memory.commit()
        return super().after_optimizer_step(step, momentum)

    def after_skipped_step(self) -> None:
        if self.part_memory is not None:
            self.part_memory.rollback()
