"""PseudoSeg (Zou et al., ICLR 2021): a decoder's and a class map's decision make a soft label."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..functional import (
    calibrated_fusion,
    cutout_mask,
    nearest,
    present_classes,
    pseudo_cross_entropy,
    soft_cross_entropy,
)
from ..models.feature_tap import FeatureTap
from ..models.probe import on_empty_image
from ..models.running import running
from ..models.segmentors import main_head
from ..semi import Role, SemiSegmentor, SemiTrainCfg, View, network, said

STAGES = 2  # of the encoder, the last ones, that the attention reads


@dataclass
class PseudoSegTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``.

    Args:
        fusion: gamma, the decoder's share of the label (the paper's 0.5).
        temperature: T of the sharpening.
        unlabeled_weight, sgc_weight, cls_weight: of the strong view's term, of the class maps' and
            of the image classifier's cross entropy; all 1.
        cutout: side of the hole in the strong view, pixels; it leaves the loss. 0: none.
        background: class 0 is what no other class is (VOC, COCO), and is not classified. False, for
            Cityscapes, say: all classes are (our option).
        cutmix_prob: 0: there is no CutMix (theirs has code for it, unused).
    """
    fusion: float = said(0.5, "γ, the decoder's share of the label")
    temperature: float = said(0.5, 'temperature of the label')
    unlabeled_weight: float = said(1.0, 'weight of the unlabelled images')
    sgc_weight: float = said(1.0, 'weight of the class maps')
    cls_weight: float = said(1.0, 'weight of the image classifier')
    cutout: int = said(100, 'hole in the strong view, pixels')
    background: bool = True
    cutmix_prob: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        self.check_share('fusion')
        self.check_positive('temperature')
        if self.cutout < 0:
            raise ValueError(f'semi_train_cfg.cutout must not be negative, got {self.cutout}')


@MODELS.register_module()
class PseudoSeg(SemiSegmentor):
    """The student's own weak view is labelled by its decoder and by attended class maps together.

    No average, no threshold. Labels and their loss are at the decoder's resolution, as in the
    release. The root mean square that brings both decisions to one scale is the rank's, as there.
    Unlike there, padding enters neither it nor the pooling, and the attention on the weak view does
    not leave out the hole, which only the strong view has. Labels of images are those of their
    masks. The attention labels by running statistics, like the encoder pass that it reads.
    """
    cfg_class = PseudoSegTrainCfg
    apart = True
    roles = {'student': Role(), 'attention': Role(plain=False)}

    @classmethod
    def published_as(cls, cfg):
        return 'PseudoSeg' if (cfg.fusion, cfg.temperature, cfg.cutout) == (0.5, 0.5, 100) else None

    @classmethod
    def passes(cls, cfg):  # weak, the encoder once more in eval mode, strong
        return dict(labeled=(3, 3), unlabeled=(5, 4))

    def build_own(self, attention=None):
        with torch.no_grad(), running(self.student, 'eval'):
            stages = on_empty_image(self.student, self._encode)
        self.attention = self.here(MODELS.build({
            'type': 'ClassMapAttention', 'norm_cfg': getattr(
                main_head(self.student), 'norm_cfg', None), **(attention or {}),
            'in_channels': [stage.size(1) for stage in stages], 'num_classes': self.num_classes,
            'background': self.cfg.background}))

    def step(self, batch):
        cfg, weak, valid = self.cfg, batch.weak, batch.valid
        losses = self.supervised(batch, company=False)
        decided, _ = self._decode(weak)  # in training mode, no gradient
        target = self._label(decided, weak, valid)
        strong = self.strong(weak)
        hole = cutout_mask(len(weak), tuple(weak.shape[-2:]), cfg.cutout, device=weak.device)
        logits, _ = self._decode(strong.images.masked_fill(hole[:, None], 0.0), grad=True)
        target = strong.mix(target, align_corners=self.align_corners)
        kept = nearest(strong.mix(valid) & ~hole, logits.shape[-2:], self.align_corners)
        losses['loss_u'] = self.ramp() * cfg.unlabeled_weight * soft_cross_entropy(
            logits, target, kept, divisor=self.divisor)
        self.diagnostics.add('confidence', (target.amax(dim=1) * kept).sum()
                             / kept.sum().clamp(min=1))
        return losses

    def supervised(self, batch, company=True):
        """Decoder, image classifier and class maps on the labelled images, in the warm-up too."""
        cfg, num, listener = self.cfg, batch.num_labeled, self._listener()
        with listener.listen():
            losses = super().supervised(batch, company)
        del losses['loss_unused']
        labels, known = batch.truth.clamp(min=0), batch.truth >= 0
        shown = present_classes(labels, self.num_classes, known)[:, int(cfg.background):]
        stages = [stage[:num] for stage in listener.first()[-STAGES:]]
        scores, maps = self.attention(stages, known, shown, self.align_corners)
        maps = network.upsample(self.student, maps, labels)
        losses['loss_sgc'] = cfg.sgc_weight * pseudo_cross_entropy(
            maps, labels, known, known, divisor=self.divisor)
        images = known.flatten(1).any(dim=1)
        count = images.sum()
        count = count.clamp(min=1) if self.divisor is None else self.divisor(count)
        errors = binary_cross_entropy_with_logits(scores, shown.to(scores.dtype), reduction='none')
        losses['loss_cls'] = cfg.cls_weight * (
            torch.where(images, errors.mean(dim=1), 0.0).sum() / count)
        return losses

    @torch.no_grad()
    def _label(self, decided: Tensor, images: Tensor, valid: Tensor) -> Tensor:
        """Soft labels ``(B, C, h, w)`` of the decoder's logits and the class maps'."""
        with running(self.student, 'eval'), running(self.attention, 'eval'):
            _, maps = self.attention(self._encode(images), valid,
                                     align_corners=self.align_corners)
        return calibrated_fusion(decided, network.upsample(self.student, maps, decided),
                                 nearest(valid, decided.shape[-2:], self.align_corners),
                                 share=self.cfg.fusion, temperature=self.cfg.temperature)

    def _decode(self, images: Tensor, **kwargs) -> tuple[Tensor, View]:
        """The student's logits ``(B, C, h, w)`` at the decoder's resolution, and its view."""
        listener = FeatureTap(main_head(self.student), 'decode_head', output=True)
        with listener.listen():
            view = self.see('student', images, **kwargs)
        return listener.take(), view

    def _encode(self, images: Tensor) -> list[Tensor]:
        listener = self._listener()
        with listener.listen():
            self.student.backbone(images)
        return listener.first()[-STAGES:]

    def _listener(self) -> FeatureTap:
        return FeatureTap(self.student.backbone, 'backbone', output=True)

    def weak_view(self, images, encoder=False):
        decided, view = self._decode(images, mode='eval', encoder=encoder)
        label = self._label(decided, images, torch.ones_like(images[:, 0], dtype=torch.bool))
        logits = label.clamp(min=torch.finfo(label.dtype).tiny).log()
        return View(network.upsample(self.student, logits, images), encoder=view.encoder)
