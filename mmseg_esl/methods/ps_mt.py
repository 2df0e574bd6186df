"""PS-MT (Liu et al., CVPR 2022): two mean teachers in turn, and noise that confuses them."""
from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace

import torch
from mmseg.registry import MODELS

from ..functional import merge_logits, pseudo_cross_entropy, pseudo_label, vat_noise
from ..models.decoder_tail import DecoderTail
from ..models.running import running
from ..models.views import recolour
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class PSMTTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``; the defaults are the release's unless called our choice.

    Args:
        unlabeled_weight: at the end of its cosine ramp; 1.5 on VOC blender, 0.6 on classic (0.06
            with 92 labels), 3 on Cityscapes.
        threshold: confidence from which on a pixel counts.
        top_logits: classes of a pixel for which the second teacher speaks.
        epoch_iters: iterations of an epoch of the unlabelled images, after which the teachers take
            turns; 300 (our choice) is about what 1/16 of VOC has at 32 images a step.
        vat_radius: length of the noise on an image's features; 0: none.
        xi: trial step of its search: 1e-6 in the release, which finds nothing (see
            functional.vat_noise); 0.1 (our choice).
        warmup_iters: supervised; the release has 5 epochs of the labelled images.
        ramp_iters: the release has 12 epochs.
        cutmix: 'beta' (VOC) or 'three' (Cityscapes), see what all methods share.
    """
    unlabeled_weight: float = said(1.5, 'weight of the unlabelled images')
    threshold: float = said(0.6, 'τ, confidence of pseudo labels')
    top_logits: int = 7
    epoch_iters: int = said(300, 'iterations of a turn')
    vat_radius: float = said(2.0, 'length of the adversarial noise')
    xi: float = said(0.1, 'ξ, trial step of the noise')
    ramp_shape: str = 'cosine'
    ema_momentum: float = said(0.996, 'EMA momentum')
    ema_schedule: str = 'constant'
    cutmix: str = 'beta'

    def __post_init__(self):
        super().__post_init__()
        self.check_positive('top_logits', 'epoch_iters', 'xi')
        if self.vat_radius < 0:
            raise ValueError('semi_train_cfg.vat_radius must not be negative, got '
                             f'{self.vat_radius}')


@MODELS.register_module()
class PSMT(SemiSegmentor):
    """Two averages of one student label together; in each epoch one follows and the other rests.

    The student sees colours and CutMix, labelled images in other colours, and, on the way into the
    decoder's last layers, noise by which the teachers' decoders are most confused.

    Our choices: the teachers start as the student is after the warm-up (the release trains three
    networks from different starts); a box is filled from the next image (there from a random one,
    at times the same); padding does not count; teachers are in eval mode (``teacher_mode``).
    ``semi_test_cfg.predict_on='both'`` tests the mean of both teachers' logits, as the release does
    on VOC; an export is one of them.
    """
    cfg_class = PSMTTrainCfg
    apart = True
    roles = {'student': Role(), 'teacher': Role('student'), 'teacher2': Role('student')}
    title = 'PS-MT'

    @classmethod
    def published_as(cls, cfg):
        # of several releases' settings: VOC, VOC classic, VOC classic with 92 labels, Cityscapes
        return 'PSMT' if cfg.threshold == 0.6 and cfg.unlabeled_weight in (
            1.5, 0.6, 0.06, 3) else None

    @classmethod
    def passes(cls, cfg):  # beside them, for the noise, 6 of the decoder's tail
        return dict(labeled=(3, 3), unlabeled=(5, 5))

    @classmethod
    def fallbacks(cls, net):
        return [(dict(semi_train_cfg=dict(vat_radius=0.0)), 'without adversarial noise')]

    def build_own(self):
        self.tail = DecoderTail.of(self.student) if self.cfg.vat_radius else None

    @property
    def tapped(self):
        return (f'decode_head.{self.tail.name}',) if self.tail else ()

    def step(self, batch):
        cfg = self.cfg
        follows, rests = self.turns
        target = merge_logits(self.see(follows, batch.weak).logits,
                              self.see(rests, batch.weak).logits, cfg.top_logits)
        strong = self.strong(batch.weak)
        labels, confidence = pseudo_label(strong.mix(target))
        valid, known = strong.mix(batch.valid), batch.truth >= 0
        with self._noise(known):
            losses, _, _ = self.train_on(self._coloured(batch))
        with self._noise(valid):
            student = self.see('student', strong.images, grad=True)
        # a mean over the sure pixels, each weighted by its confidence: only the ramp fades it in
        sure = (confidence >= cfg.threshold) & valid
        losses['loss_u'] = self.ramp() * cfg.unlabeled_weight * pseudo_cross_entropy(
            student.logits, labels, sure, sure, weight=confidence, divisor=self.divisor)
        self.diagnostics.add('confident', sure.sum() / valid.sum().clamp(min=1))
        return losses

    def supervised(self, batch, company=True):
        return super().supervised(self._coloured(batch), company)

    @property
    def turns(self) -> tuple[str, str]:
        """The teacher that follows in this epoch, and the one that rests."""
        epoch = max(self.iter - self.cfg.warmup_iters, 0) // self.cfg.epoch_iters
        return ('teacher', 'teacher2') if epoch % 2 == 0 else ('teacher2', 'teacher')

    def momentum(self, name, step):
        if self.iter < self.cfg.warmup_iters:
            return 0.0
        return super().momentum(name, step) if name == self.turns[0] else None

    @contextmanager
    def _noise(self, valid):
        """Within the block, the student's decoder is given features with noise.

        Args:
            valid: ``(B, H, W)`` bool, pixels of its images whose prediction the noise is to change.
        """
        if self.tail is None:
            yield
            return

        def both(features):
            return (self.tail(self.teacher, features) + self.tail(self.teacher2, features)) / 2

        def add(features):
            return features + vat_noise(
                both, features, xi=self.cfg.xi, valid=valid, radius=self.cfg.vat_radius,
                align_corners=self.align_corners)

        with running(self.teacher, 'eval'), running(self.teacher2, 'eval'), \
                self.tail.given(self.student, add):
            yield

    def _coloured(self, batch):
        labeled = recolour(batch.labeled, self.strong_view, self.data_preprocessor)
        return replace(batch, images=torch.cat([labeled, batch.weak]))

    @property
    def predictor(self):
        if self.semi_test_cfg['predict_on'] != 'both':
            return super().predictor
        pair = copy(self.teacher)  # the same modules, asked together with the other's
        pair.encode_decode = lambda *args: (
            self.teacher.encode_decode(*args) + self.teacher2.encode_decode(*args)) / 2
        return pair
