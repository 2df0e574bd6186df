"""AugSeg (Zhao et al., CVPR 2023): a mean teacher whose strength is how images are augmented."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS

from ..functional import draw_injection, image_certainty, pseudo_cross_entropy, pseudo_label
from ..functional.phases import phase
from ..models.views import recolour
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class AugSegTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``; the defaults are the release's on VOC.

    Args:
        threshold: confidence from which on a pixel counts; 0.95, on Cityscapes 0: all.
        unlabeled_weight: of the unlabelled term; 1.
        copy_steps: first steps in which the teacher is a copy of the student, before the average
            begins; the release: one epoch.
        extra_weak: the weak view passes the student too, for its batch-norm statistics alone. Off,
            as in all published logs.
        ema_momentum: 0.999, on Cityscapes 0.996. The cutmix keys are not read: see the injection.
    """
    threshold: float = said(0.95, 'τ, confidence of pseudo labels')
    unlabeled_weight: float = said(1.0, 'weight of the unlabelled images')
    copy_steps: int = said(0, 'first steps in which the average is a copy')
    extra_weak: bool = said(False, 'weak view trains batch norm')
    ema_momentum: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        if self.copy_steps < 0:
            raise ValueError('semi_train_cfg.copy_steps must not be negative')


@MODELS.register_module()
class AugSeg(SemiSegmentor):
    """The teacher's classes on the weak view teach a strong one, with labelled patches in it.

    Strong is a few changes of intensity (``strong_view=dict(type='RandomIntensity')``), then boxes
    of other images, in which an image of which the teacher is unsure shows a patch of a labelled
    image: the less sure, the more often. Unlike the release, padding does not count, neither in an
    image's certainty, and the sum is divided by the pixels that do count, those of the patches'
    unlabelled pixels (255) left out, where the release divides by all.
    """
    cfg_class = AugSegTrainCfg
    roles = {'student': Role(), 'teacher': Role('student')}

    @classmethod
    def published_as(cls, cfg):
        usual = cfg.threshold in (0.95, 0), cfg.unlabeled_weight, cfg.extra_weak
        return 'AugSeg' if usual == (True, 1, False) else None

    @classmethod
    def passes(cls, cfg):
        unlabeled = 7 if cfg.extra_weak else 4
        return dict(labeled=(3, 3), unlabeled=(unlabeled, unlabeled))

    def step(self, batch):
        cfg, weak, valid = self.cfg, batch.weak, batch.valid
        logits = self.see('teacher', weak).logits
        labels, confidence = pseudo_label(logits)
        with phase('strong view'):
            strong = recolour(weak, self.strong_view, self.data_preprocessor)
            injection = draw_injection(image_certainty(logits, valid), tuple(weak.shape[-2:]))
            images = injection.mix(strong, batch.labeled)
        known = batch.truth
        there = known >= 0
        labels = injection.mix(labels, known.clamp(min=0))
        confidence = injection.mix(confidence, torch.ones_like(known, dtype=confidence.dtype))
        counts = injection.mix(valid, there)
        views = (weak, images) if cfg.extra_weak else (images,)
        losses, seen, _ = self.train_on(batch, *views)
        losses['loss_u'] = self.ramp() * cfg.unlabeled_weight * pseudo_cross_entropy(
            seen[-1].logits, labels, confidence >= cfg.threshold, counts, divisor=self.divisor)
        self.diagnostics.add('injected', injection.mix(torch.zeros_like(valid),
                                                       torch.ones_like(there)).float().mean())
        return losses

    def momentum(self, name, step):
        return 0.0 if step < self.cfg.copy_steps else super().momentum(name, step)
