"""UniMatch V2 (Yang et al., 2024): two strong views that lose complementary channels."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS

from ..functional import complementary_dropout, pseudo_cross_entropy, pseudo_label
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class UniMatchV2TrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``; the defaults are the release's.

    Args:
        threshold: tau, confidence from which on a pixel counts; 0.95 on all data sets.
        unlabeled_weight: of the mean of the two strong views' terms.
        clean_share: share of the images, rounded down, whose channels all stay, in both views;
            0.5. 1 leaves FixMatch with an averaged teacher and two strong views.
        supervised_weight, ema_momentum, cutmix, cutmix_partner, others: as shared by all methods;
            both terms are halved, each image draws a box, filled from the reversed batch.
    """
    threshold: float = said(0.95, 'τ, confidence of pseudo labels')
    supervised_weight: float = 0.5
    unlabeled_weight: float = said(0.5, 'weight of the unlabelled images')
    clean_share: float = said(0.5, 'share of images that lose no channels')
    ema_momentum: float = 0.996
    cutmix: str = 'image'
    cutmix_partner: str = 'flip'

    def __post_init__(self):
        super().__post_init__()
        self.check_share('clean_share')


@MODELS.register_module()
class UniMatchV2(SemiSegmentor):
    """The teacher's confident classes on the weak view teach two strong views in one stream.

    Images and features are perturbed at once, so there is no second decoder pass as in UniMatch.
    Labelled images pass the student apart, without dropout (the release, whose decoder has no batch
    norm that this could matter to).
    """
    cfg_class = UniMatchV2TrainCfg
    apart = True
    roles = {'student': Role(), 'teacher': Role('student')}
    title = 'UniMatch V2'

    @classmethod
    def published_as(cls, cfg):
        usual = cfg.threshold, cfg.clean_share, cfg.supervised_weight, cfg.unlabeled_weight
        return cls.title if usual == (0.95, 0.5, 0.5, 0.5) else None

    @classmethod
    def passes(cls, cfg):  # teacher 1, strong views 2 x 3
        return dict(labeled=(3, 3), unlabeled=(7, 7))

    def step(self, batch):
        cfg, weak, valid = self.cfg, batch.weak, batch.valid
        labels, confidence = pseudo_label(self.see('teacher', weak).logits)
        sure = confidence >= cfg.threshold
        losses, _, _ = self.train_on(batch)
        views = self.strong(weak), self.strong(weak)
        logits = self.see('student', torch.cat([view.images for view in views]), grad=True,
                          perturb=self._drop if cfg.clean_share < 1 else None).logits
        terms = [pseudo_cross_entropy(mine, view.mix(labels), view.mix(sure), view.mix(valid),
                                      divisor=self.divisor)
                 for view, mine in zip(views, logits.chunk(2))]
        losses['loss_u'] = self.ramp() * cfg.unlabeled_weight * sum(terms) / 2
        self.diagnostics.add('confident', (sure & valid).sum() / valid.sum().clamp(min=1))
        return losses

    def _drop(self, feats):
        return complementary_dropout(feats, clean_share=self.cfg.clean_share)
