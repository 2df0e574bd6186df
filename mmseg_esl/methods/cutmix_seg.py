"""CutMix-Seg (French et al., BMVC 2020): a mixed image is to be seen as the mix of its parts is."""
from __future__ import annotations

from dataclasses import dataclass

from mmengine.dist import all_reduce
from mmseg.registry import MODELS
from torch import Tensor

from ..functional import probability_mse, pseudo_cross_entropy, pseudo_label
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class CutMixSegTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``. Two codes of this name fill the tables of the field.

    Args:
        consistency: 'mse': squared difference of probabilities, summed over the classes (paper).
            'hard': cross entropy with the teacher's class (U2PL's trainer, inferred from its code).
        consistency_weight: of that term; 1. A mean over C classes would want C times as much.
        threshold: tau, confidence from which on a pixel counts; None: 0.97 for 'mse', 0 for 'hard'.
        counting: 'rate': all pixels count by the share of confident ones in the batch of all ranks
            (release); 'pixel': the confident ones alone (its option).
        ema_schedule, cutmix, others: as shared by all methods; the defaults are the release's: a
            constant 0.99, in every image a box of half its area.
    """
    consistency: str = said('mse', 'consistency')
    consistency_weight: float = said(1.0, 'weight of the consistency')
    threshold: float | None = said(None, 'τ, confidence that counts')
    counting: str = said('rate', 'confidence counts by')
    ema_schedule: str = 'constant'
    cutmix: str = 'aspect'

    def __post_init__(self):
        super().__post_init__()
        self.check_choice('consistency', 'mse', 'hard')
        self.check_choice('counting', 'rate', 'pixel')
        if self.threshold is None:
            self.threshold = 0.97 if self.consistency == 'mse' else 0.0


@MODELS.register_module()
class CutMixSeg(SemiSegmentor):
    """The teacher sees two images, the student a CutMix of them, its target is that of the logits.

    The box is filled from the next image of the batch, so that one forward of the teacher serves
    both; the release has a second loader, which under one seed gives the same images. Unlike there,
    padding does not count, and the teacher is in eval mode (``teacher_mode`` undoes the latter).
    The BMVC setting freezes batch norm: the backbone's ``norm_eval=True``.
    """
    cfg_class = CutMixSegTrainCfg
    apart = True
    roles = {'student': Role(), 'teacher': Role('student')}
    title = 'CutMix-Seg'

    @classmethod
    def name_of(cls, cfg):
        return cls.title if cfg.consistency == 'mse' else f'{cls.title}, hard labels'

    @classmethod
    def published_as(cls, cfg):
        return cls.title if (cfg.consistency, cfg.consistency_weight) in (
            ('mse', 1), ('hard', 1)) else None

    @classmethod
    def passes(cls, cfg):
        return dict(labeled=(3, 3), unlabeled=(4, 4))

    def step(self, batch):
        cfg, weak = self.cfg, batch.weak
        unmixed = self.see('teacher', weak).logits
        strong = self.strong(weak)
        target, valid = strong.mix(unmixed), strong.mix(batch.valid)
        losses, _, _ = self.train_on(batch)  # labelled and mixed images pass apart
        student = self.see('student', strong.images, grad=True)
        labels, confidence = pseudo_label(target)
        sure = (confidence >= cfg.threshold) & valid
        rate = self._share(sure.to(confidence.dtype), valid)
        keep, weight = (sure, 1.0) if cfg.counting == 'pixel' else (valid, rate)
        if cfg.consistency == 'hard':
            term = pseudo_cross_entropy(student.logits, labels, keep, valid, divisor=self.divisor)
        else:
            term = probability_mse(student.logits, target, valid, keep=keep, over_classes='sum',
                                   divisor=self.divisor)
        losses['loss_cons'] = self.ramp() * cfg.consistency_weight * weight * term
        self.diagnostics.add('confident', rate)
        return losses

    def _share(self, sure: Tensor, valid: Tensor) -> Tensor:
        """Share of sure pixels among the valid ones, of all ranks where means are of all ranks."""
        if self.divisor is None:
            return sure.sum() / valid.sum().clamp(min=1)
        share = (sure.sum() / self.divisor(valid.sum())).to(sure.dtype)
        all_reduce(share, op='mean')
        return share
