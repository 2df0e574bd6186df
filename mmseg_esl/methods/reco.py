"""ReCo (Liu et al., ICLR 2022): hard pixels against the classes that they are taken for."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

from ..functional import (
    PixelsByClass,
    at_least_float,
    class_contrast,
    class_weights,
    classmix_mask,
    confusion,
    cutmix_mask,
    draw_classes,
    flip_some,
    look_through,
    mix,
    nearest,
    part_sums,
    pseudo_label,
    rescale_windows,
    weighted_cross_entropy,
    windows_inside,
)
from ..functional.phases import phase
from ..models.projector import build_projector
from ..models.segmentors import classifiers, main_head
from ..models.views import recolour
from ..semi import Role, SemiSegmentor, SemiTrainCfg, Tap, network, said


@dataclass
class ReCoTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``; the defaults are the release's on VOC.

    Args:
        unlabeled_weight, contrast_weight: of the two terms.
        mixing: 'classmix', or 'cutmix' with the next image's box in all images (``cutmix_area``,
            ``cutmix_prob``).
        rescale: least and largest factor of the strong view; (1, 1) on Cityscapes.
        flip_prob: of mirroring a strong view.
        strong_threshold: delta_s. An image's pseudo labels count by the share of its pixels whose
            confidence reaches it; pixels of which the student is less sure than that are hard.
        weak_threshold: delta_w, from which on a pseudo label enters the contrast.
        num_anchors: of a class. num_negatives: of an anchor. temperature: of both softmaxes.
    """
    unlabeled_weight: float = said(1.0, 'weight of the unlabelled images')
    contrast_weight: float = said(1.0, 'weight of the contrast')
    mixing: str = said('classmix', 'mixing')
    rescale: tuple = said((0.5, 1.5), 'factors of rescaling')
    flip_prob: float = 0.5
    strong_threshold: float = said(0.97, 'δ_s, sure pixels')
    weak_threshold: float = said(0.7, 'δ_w, pixels of the contrast')
    num_anchors: int = said(256, 'anchors of a class')
    num_negatives: int = said(512, 'negatives of an anchor')
    temperature: float = said(0.5, 'temperature of the contrast')
    cutmix_prob: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self.check_choice('mixing', 'classmix', 'cutmix')
        self.check_share('flip_prob', 'strong_threshold', 'weak_threshold')
        self.check_positive('num_anchors', 'num_negatives', 'temperature')
        if len(self.rescale) != 2 or not 0 < self.rescale[0] <= self.rescale[1]:
            raise ValueError('semi_train_cfg.rescale must be two positive factors in order, got '
                             f'{self.rescale}')


@MODELS.register_module()
class ReCo(SemiSegmentor):
    """Mean teacher and ClassMix, and a contrast of classes within the batch; no memory.

    Labelled and unlabelled images pass apart, as in the release. Unlike it: padding is no pixel,
    nor is what the rescaling blends with it; images and confidences are not cut to 8 bits; the
    classes of ClassMix are real ones; the teacher is in eval mode and averages its batch-norm
    statistics (``teacher_mode``, ``ema_buffers``). Each rank contrasts its own images.

    Args:
        projector: config of the representation head.
        embedding: dotted path, within the segmentor, of the module whose input the head reads:
            the classifier. The paper's is the decoder's first one, see configs/reco/method.py.
        others: see :class:`SemiSegmentor`; ``semi_train_cfg``: :class:`ReCoTrainCfg`.
    """
    cfg_class = ReCoTrainCfg
    apart = True
    title = 'ReCo'
    roles = {'student': Role(), 'projector': Role(plain=False), 'teacher': Role('student')}

    @classmethod
    def published_as(cls, cfg):
        return 'ReCo'

    @classmethod
    def passes(cls, cfg):
        labeled = 3 if cfg.joint_forward else 6  # losses and logits by a forward each
        return dict(labeled=(labeled, labeled), unlabeled=(4, 4))

    @classmethod
    def fallbacks(cls, net):
        return [(dict(embedding=path), f"the representation head reads the input of '{path}'")
                for path in classifiers(net)]

    def build_own(self, projector=None, embedding='decode_head.conv_seg'):
        self.embedding, self.tapped = embedding, (embedding,)
        module, _ = network.tapped(self.student, embedding)
        self.projector = self.here(build_projector(module, embedding, {
            'type': 'RepresentationHead', 'num_convs': 1, 'dropout': 0.0, **(projector or {})},
            getattr(main_head(self.student), 'norm_cfg', None)))

    def step(self, batch):
        cfg, ramp = self.cfg, self.ramp()
        labels, confidence = pseudo_label(self.see('teacher', batch.weak).logits)
        images, labels, confidence = self._moved(batch, labels, confidence)
        tap = Tap(self.embedding, self.projector)
        losses, (labeled,), z = self.train_on(batch, labeled=True, tap=tap)
        student = self.see('student', images, grad=True, tap=tap)
        # an image's labels count as much as the teacher is sure of it
        valid = labels >= 0
        sure = (valid & (confidence >= cfg.strong_threshold)).sum(dim=(1, 2))
        share = sure.to(confidence.dtype) / valid.sum(dim=(1, 2)).clamp(min=1)
        losses['loss_u'] = ramp * cfg.unlabeled_weight * weighted_cross_entropy(
            student.logits, labels, valid * share[:, None, None], valid.sum(), divisor=self.divisor)
        # regional contrast, by ground truth where there is one
        known = batch.truth
        weak = torch.where(confidence >= cfg.weak_threshold, labels, -1)
        losses['loss_contrast'] = ramp * cfg.contrast_weight * self._contrast(
            torch.cat([labeled.logits, student.logits]), torch.cat([z, student.embedding]),
            torch.cat([known, weak]))
        self.diagnostics.add('confident', sure.sum() / valid.sum().clamp(min=1))
        return losses

    def supervised(self, batch, company=True):
        # in the warm-up, too, the head gathers its batch-norm statistics
        return super().supervised(batch, company, tap=Tap(self.embedding, self.projector))

    @phase('strong view')
    @torch.no_grad()
    def _moved(self, batch, labels: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rescaled, mixed, coloured and mirrored images, and what belongs to their pixels.

        Labels are -1 and confidences 0 where there is no image.
        """
        cfg, weak, size = self.cfg, batch.weak, tuple(batch.weak.shape[-2:])
        windows = rescale_windows(len(weak), size, cfg.rescale, device=weak.device)
        images = look_through(weak, windows)
        blended = look_through((~batch.valid)[:, None].to(weak.dtype), windows)[:, 0] > 0
        valid = windows_inside(windows, size) & ~blended
        maps = torch.stack([labels.to(confidence.dtype), confidence], dim=1)
        labels, confidence = look_through(maps, windows, nearest=True).unbind(dim=1)
        labels, confidence = torch.where(valid, labels.long(), -1), confidence * valid
        if cfg.mixing == 'classmix':
            boxes = classmix_mask(labels, self.num_classes)
        else:
            boxes = cutmix_mask(len(weak), size, area=cfg.cutmix_area, prob=cfg.cutmix_prob,
                                device=weak.device)
        images, labels, confidence = (mix(x, boxes) for x in (images, labels, confidence))
        images = recolour(images, self.strong_view, self.data_preprocessor)
        which = torch.rand(len(weak), device=weak.device) < cfg.flip_prob
        return tuple(flip_some(x, which) for x in (images, labels, confidence))

    @phase('contrast')
    def _contrast(self, logits: Tensor, z: Tensor, classes: Tensor) -> Tensor:
        """Hard pixels are drawn to their class's mean, away from pixels of like classes.

        ``(B, C, H, W)`` logits, ``(B, L, h, w)`` z, ``(B, H, W)`` classes, -1 where unknown.
        """
        cfg, size = self.cfg, z.shape[-2:]
        like_draw = dict(dtype=torch.float64, device=z.device)
        with torch.autocast(z.device.type, enabled=False):
            with torch.no_grad():
                classes, logits = (nearest(x, size, self.align_corners)
                                   for x in (classes, logits.detach()))
                probs = at_least_float(logits).softmax(dim=1)
                own = probs.gather(1, classes.clamp(min=0)[:, None])[:, 0]
                hard = torch.where(own < cfg.strong_threshold, classes, -1)
                pixels, hard = (PixelsByClass.of(x.flatten(), self.num_classes)
                                for x in (classes, hard))
                # sums in place of means: their direction counts alone
                means = part_sums(z.detach(), classes, self.num_classes)[0].sum(dim=0)
                present = pixels.count > 0
                owner = torch.arange(self.num_classes * cfg.num_anchors, device=z.device)
                owner = owner.div(cfg.num_anchors, rounding_mode='floor')
                weights = class_weights(hard.count > 0, present, cfg.num_anchors)
                anchor = hard.pick(owner, torch.rand(owner.shape, **like_draw))
                sums = confusion(means, present, cfg.temperature)
            features = at_least_float(z.flatten(2).transpose(1, 2).flatten(0, 1))
            # products with every pixel take less than reading 512 features for each anchor
            pool = F.normalize(features.detach(), dim=1)

            def negatives(unit, some):
                kind, place = torch.rand(2, len(some), cfg.num_negatives, **like_draw)
                classes = draw_classes(sums[owner[some]], kind)
                return (unit @ pool.T).gather(1, pixels.pick(classes, place))
            return class_contrast(features[anchor], means[owner], negatives, weights[owner],
                                  1 + 2 * len(pool) // pool.shape[1], cfg.temperature)
