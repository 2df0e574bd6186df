"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017), carried over to pixels."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS

from ..functional import probability_mse, pseudo_cross_entropy, pseudo_label
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said

USUAL = {'mse': 100.0, 'hard': 1.0}  # weights


@dataclass
class MeanTeacherTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``. Two codes of this name fill the tables of the field.

    Args:
        consistency: 'mse': squared difference of probabilities, mean over the classes, on labelled
            and unlabelled images (CPS's authors). 'hard': cross entropy with the teacher's class on
            the unlabelled ones (U2PL's trainer).
        consistency_weight: of that term; None: 100 for 'mse', 1 for 'hard', as they have it.
    """
    consistency: str = said('mse', 'consistency')
    consistency_weight: float | None = said(None, 'weight of the consistency')

    def __post_init__(self):
        super().__post_init__()
        self.check_choice('consistency', 'mse', 'hard')
        if self.consistency_weight is None:
            self.consistency_weight = USUAL[self.consistency]


@MODELS.register_module()
class MeanTeacher(SemiSegmentor):
    """Student and teacher see the same images; the student is drawn to what the teacher says.

    There is no strong view, so the two differ by the average alone: a weak baseline by
    construction. Unlike the releases, padding does not count, the teacher is in eval mode and its
    batch-norm statistics are averaged too (``teacher_mode``, ``ema_buffers`` undo the latter two).
    """
    cfg_class = MeanTeacherTrainCfg
    apart = True
    roles = {'student': Role(), 'teacher': Role('student')}
    title = 'Mean Teacher'

    @classmethod
    def published_as(cls, cfg):
        return 'MT' if cfg.consistency_weight == USUAL[cfg.consistency] else None

    @classmethod
    def passes(cls, cfg):
        if cfg.consistency == 'hard':
            return dict(labeled=(3, 3), unlabeled=(4, 4))
        labeled = 4 if cfg.joint_forward else 7  # losses and logits by a forward each
        return dict(labeled=(labeled, labeled), unlabeled=(4, 4))

    def step(self, batch):
        weight = self.ramp() * self.cfg.consistency_weight
        if self.cfg.consistency == 'hard':
            labels, _ = pseudo_label(self.see('teacher', batch.weak).logits)
            losses, (student,), _ = self.train_on(batch, batch.weak)
            losses['loss_cons'] = weight * pseudo_cross_entropy(
                student.logits, labels, batch.valid, batch.valid, divisor=self.divisor)
            return losses
        # labelled and unlabelled images pass apart, each with batch-norm statistics of its own (the
        # teacher's too, where it is in training mode)
        losses, (labeled,), _ = self.train_on(batch, labeled=True)
        weak = self.see('student', batch.weak, grad=True)
        teacher = [self.see('teacher', images).logits for images in (batch.labeled, batch.weak)]
        losses['loss_cons'] = weight * probability_mse(
            torch.cat([labeled.logits, weak.logits]), torch.cat(teacher), batch.known,
            divisor=self.divisor)
        return losses
