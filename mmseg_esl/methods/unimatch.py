"""UniMatch (Yang et al., CVPR 2023): two strong views, and perturbed features of the weak one."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS
from torch.nn.functional import dropout2d

from ..functional import pseudo_cross_entropy, pseudo_label
from ..semi import SemiSegmentor, said
from .fixmatch import FixMatch, FixMatchTrainCfg


@dataclass
class UniMatchTrainCfg(FixMatchTrainCfg):
    """Keys of its ``semi_train_cfg``: FixMatch's, and

    Args:
        strong_weights: of the two strong views, within the unlabelled half of the loss.
        feature_weight: of the perturbed features.
        feature_drop: share of the encoder's channels that are dropped.
    """
    strong_weights: tuple = said((0.25, 0.25), 'weights of the strong views')
    feature_weight: float = said(0.5, 'weight of the perturbed features')
    feature_drop: float = said(0.5, 'share of dropped channels')

    def __post_init__(self):
        super().__post_init__()
        self.check_share('feature_drop')
        if len(self.strong_weights) != 2:
            raise ValueError('semi_train_cfg.strong_weights must be two numbers, got '
                             f'{self.strong_weights}')


@MODELS.register_module()
class UniMatch(SemiSegmentor):
    """FixMatch with a second strong view and a decoder pass on features with dropped channels.

    ``labels_by='teacher'`` takes the labels from a moving average instead (our option; V2's
    finding). The head's own dropout, which the original has not, is the segmentor's key.
    """
    cfg_class = UniMatchTrainCfg
    roles_of = FixMatch.roles_of

    @classmethod
    def name_of(cls, cfg):
        return 'UniMatch + EMA' if cfg.labels_by == 'teacher' else 'UniMatch'

    @classmethod
    def published_as(cls, cfg):
        usual = tuple(cfg.strong_weights), cfg.feature_weight, cfg.feature_drop
        return FixMatch.published_as(cfg) and cls.name_of(cfg) if usual == (
            (0.25, 0.25), 0.5, 0.5) else None

    @classmethod
    def passes(cls, cfg):  # eval 1, weak 3 and dropped 3 (decoder), strong 2 x 3
        return dict(labeled=(3, 6), unlabeled=(10, 13))

    def step(self, batch):
        cfg, weak, valid = self.cfg, batch.weak, batch.valid
        inside = pseudo_label(self.see(self.labeler, weak, mode='eval').logits)
        # labelled, weak, and both with dropped channels: one training forward
        losses, (seen, dropped), _ = self.train_on(
            batch, weak, perturb=[lambda feats: [dropout2d(f, cfg.feature_drop) for f in feats]])
        labels, confidence = inside if cfg.labels_by == 'teacher' else pseudo_label(seen.logits)
        sure = confidence >= cfg.threshold
        one, two = self.strong(weak), self.strong(weak)
        logits = self.see('student', torch.cat([one.images, two.images]), grad=True).logits
        terms = [cfg.feature_weight * pseudo_cross_entropy(  # its target is not mixed
            dropped.logits, labels, sure, valid, divisor=self.divisor)]
        for weight, view, mine in zip(cfg.strong_weights, (one, two), logits.chunk(2)):
            terms.append(weight * pseudo_cross_entropy(
                mine, view.mix(labels, inside[0]), view.mix(sure, inside[1] >= cfg.threshold),
                view.mix(valid), divisor=self.divisor))
        losses['loss_u'] = self.ramp() * cfg.unlabeled_weight * sum(terms)
        self.diagnostics.add('confident', (sure & valid).sum() / valid.sum().clamp(min=1))
        return losses
