"""CPS (Chen et al., CVPR 2021): two networks of different initialisation label for each other."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS

from ..functional import pseudo_cross_entropy, pseudo_label
from ..semi import PADDING, Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class CPSTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``.

    Args:
        cps_weight: of the cross supervision; 1.5 on VOC, 6 on Cityscapes.
    """
    cps_weight: float = said(1.5, 'weight of the cross supervision')


@MODELS.register_module()
class CPS(SemiSegmentor):
    """Each network learns the other one's classes on all images, weak views alone, no threshold.

    One config, two initialisations: the heads start apart, and must. Weights of a whole segmentor
    (load_from) fill both alike. Unlike the release, padding does not count, nor do pixels that the
    labels ignore.
    """
    cfg_class = CPSTrainCfg
    roles = {'student': Role(), 'student2': Role()}

    @classmethod
    def published_as(cls, cfg):
        return 'CPS' if cfg.cps_weight in (1.5, 6) else None

    @classmethod
    def passes(cls, cfg):
        labeled = 6 if cfg.joint_forward else 12  # losses and logits by a forward each
        return dict(labeled=(labeled, labeled), unlabeled=(6, 6))

    def step(self, batch):
        losses, logits = {}, []
        for name in self.roles:  # labelled and unlabelled images pass apart
            found, (labeled,), _ = self.train_on(batch, name=name, labeled=True)
            losses.update(found)
            weak = self.see(name, batch.weak, grad=True)
            logits.append(torch.cat([labeled.logits, weak.logits]))
        labels, valid = [pseudo_label(x)[0] for x in logits], batch.labels != PADDING
        terms = [pseudo_cross_entropy(mine, theirs, valid, valid, divisor=self.divisor)
                 for mine, theirs in zip(logits, labels[::-1])]
        losses['loss_cps'] = self.ramp() * self.cfg.cps_weight * sum(terms)
        self.diagnostics.add('agreement', ((labels[0] == labels[1]) & valid).sum()
                             / valid.sum().clamp(min=1))
        return losses
