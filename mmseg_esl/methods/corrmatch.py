"""CorrMatch (Sun et al., CVPR 2024): labels spread along the correlation of positions."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS
from torch import nn
from torch.nn.functional import dropout2d

from ..functional import (
    at_least_float,
    correlated_logits,
    correlation_regions,
    probability_kl,
    pseudo_cross_entropy,
    pseudo_label,
    spread_labels,
)
from ..functional.phases import phase
from ..models.class_threshold import ClassThreshold
from ..models.probe import on_empty_image
from ..models.segmentors import main_head
from ..models.supervised import head_losses, pixel_means, prefixed
from ..semi import Role, SemiSegmentor, SemiTrainCfg, Tap, said


@dataclass
class CorrMatchTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``; the defaults are the release's.

    Args:
        threshold: confidence from which on a pixel counts, at the start; it then follows the mean
            of the predicted classes' highest confidence.
        threshold_momentum: of that average.
        num_regions: positions whose correlation map spreads labels, drawn in each step.
        supervised_weight, labeled_correlation_weight: of the labelled images' prediction and of
            their correlated one.
        unlabeled_weight: of the sum of the terms below.
        strong_weight, kl_weight, feature_weight, correlation_weight: of the strong view's cross
            entropy, of its divergence from the weak view's probabilities, of the weak view with
            dropped channels, and of the mean of both views' correlated predictions.
        feature_drop: share of the encoder's channels that are dropped.
        cutmix: as shared by all methods; each image draws a box of 2 to 40 % of the area.
    """
    threshold: float = said(0.85, 'τ, confidence of pseudo labels, at the start')
    threshold_momentum: float = said(0.999, 'momentum of τ')
    num_regions: int = said(128, 'regions that spread labels')
    supervised_weight: float = 0.25
    labeled_correlation_weight: float = said(0.25, 'weight of labelled correlated logits')
    unlabeled_weight: float = said(0.5, 'weight of the unlabelled images')
    strong_weight: float = said(0.25, 'weight of the strong view')
    kl_weight: float = said(0.25, 'weight of the divergence')
    feature_weight: float = said(0.25, 'weight of the perturbed features')
    correlation_weight: float = said(0.25, 'weight of correlated logits')
    feature_drop: float = said(0.5, 'share of dropped channels')
    cutmix: str = 'image'

    def __post_init__(self):
        super().__post_init__()
        self.check_share('threshold', 'threshold_momentum', 'feature_drop')
        self.check_positive('num_regions')


@MODELS.register_module()
class CorrMatch(SemiSegmentor):
    """One network labels for itself; a second prediction, by correlation, learns beside its own.

    Regions of one class in the correlation maps give their class to unsure pixels. Unlike the
    release, the divergence compares the same image inside the boxes too (probabilities are mixed as
    the strong view is; there they are not), the threshold looks at the images that it judges (there
    at the mixed ones' padding), and boxes are filled from the next image of the batch.

    Args:
        correlation: config of :class:`CorrelationHead`; in_channels, num_classes and norm_cfg are
            filled in. It is used in training alone.
        others: see :class:`SemiSegmentor`; ``semi_train_cfg``: :class:`CorrMatchTrainCfg`.
    """
    cfg_class = CorrMatchTrainCfg
    apart = True
    roles = {'student': Role(), 'correlation': Role(plain=False)}

    @classmethod
    def published_as(cls, cfg):
        usual = CorrMatchTrainCfg()
        return 'CorrMatch' if all(getattr(cfg, key) == getattr(usual, key) for key in (
            'threshold', 'threshold_momentum', 'num_regions', 'unlabeled_weight', 'strong_weight',
            'kl_weight', 'feature_weight', 'correlation_weight', 'feature_drop')) else None

    @classmethod
    def passes(cls, cfg):  # eval 1, weak 3 and dropped 3 (decoder), strong 3
        return dict(labeled=(3, 6), unlabeled=(7, 10))

    def build_own(self, correlation=None):
        look = on_empty_image(self.student, lambda image: self.see(
            'student', image, mode='eval', tap=Tap('decode_head', nn.Identity())))
        self.correlation = self.here(MODELS.build({
            'type': 'CorrelationHead', **(correlation or {}),
            'norm_cfg': (correlation or {}).get('norm_cfg', main_head(self.student).norm_cfg),
            'in_channels': look.embedding.shape[1], 'num_classes': self.num_classes}))
        self.threshold = ClassThreshold(self.cfg.threshold, self.cfg.threshold_momentum)

    def step(self, batch):
        cfg, weak, valid, num = self.cfg, batch.weak, batch.valid, batch.num_labeled
        there = batch.known  # (B_l + B_u, H, W)
        # what fills the boxes is labelled in eval mode
        filling = self.see('student', weak, mode='eval').logits
        inside = pseudo_label(filling)
        # labelled, weak, and both with dropped channels: one training forward, maps of the former
        losses, (labeled, seen, dropped), maps = self.train_on(
            batch, weak, labeled=True, tap=self._tap(there),
            perturb=[lambda feats: [dropout2d(f, cfg.feature_drop) for f in feats]])
        labels, confidence = pseudo_label(seen.logits)
        gathered = self._correlated(torch.cat([labeled.logits, seen.logits]), maps, there)
        losses.update(self._labeled(gathered[:num], batch))
        threshold = self.threshold.update(labels, confidence, valid, self.num_classes)
        sure = confidence >= threshold

        strong = self.strong(weak)
        counts = strong.mix(valid)
        view = self.see('student', strong.images, grad=True, tap=self._tap(counts))
        keep = strong.mix(sure, inside[1] >= threshold) & counts
        with phase('spread labels'):
            regions = correlation_regions(maps[num:], valid, num=cfg.num_regions,
                                          align_corners=self.align_corners)
            regions &= (counts & ~strong.boxes)[:, None]
            spread, kept = spread_labels(strong.mix(labels, inside[0]), keep, regions, threshold,
                                         self.num_classes)

        def entropy(logits, classes, which, among):
            return pseudo_cross_entropy(logits, classes, which, among, divisor=self.divisor)

        probs = [at_least_float(z.detach()).softmax(dim=1) for z in (seen.logits, filling)]
        divergence = probability_kl(view.logits, strong.mix(*probs), keep, counts,
                                    divisor=self.divisor)
        correlated = self._correlated(view.logits, view.embedding, counts)
        correlated = (entropy(correlated, spread, kept, counts)
                      + entropy(gathered[num:], labels, sure, valid)) / 2
        losses['loss_u'] = self.ramp() * cfg.unlabeled_weight * (
            cfg.strong_weight * entropy(view.logits, spread, kept, counts)
            + cfg.kl_weight * divergence
            + cfg.feature_weight * entropy(dropped.logits, labels, sure, valid)
            + cfg.correlation_weight * correlated)
        for name, which in (('confident', keep), ('spread', kept)):
            self.diagnostics.add(name, which.sum() / counts.sum().clamp(min=1))
        self.diagnostics.add('threshold', threshold)
        return losses

    def _tap(self, valid):
        return Tap('decode_head', lambda feats: self.correlation(
            feats, valid, self.align_corners))

    def _correlated(self, logits, maps, valid):
        return correlated_logits(logits, maps, valid, align_corners=self.align_corners)

    def _labeled(self, logits, batch):
        """The decode head's own losses of the labelled images' correlated logits."""
        with pixel_means(self.student, self.divisor):
            found = head_losses(main_head(self.student), logits, batch.samples[:batch.num_labeled])
        weight = self.cfg.labeled_correlation_weight
        return prefixed('correlation', {k: weight * v for k, v in found.items() if 'loss' in k})
