"""CPS (Chen et al., CVPR 2021): two networks of different initialisation label for each other."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS

from ..functional import cutmix_masks_xor, mix, pseudo_cross_entropy, pseudo_label
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said

USUAL = {False: (1.5, 6), True: (1.0, 5)}  # weights without and with mixing; VOC, Cityscapes


@dataclass
class CPSTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``.

    Args:
        cps_weight: of the cross supervision; None: 1.5, and 1 with ``mixing``, the release's on VOC
            (on Cityscapes 6 and 5; the paper is said to have 1.5 and 6 for both).
        mixing: CPS + CutMix: the networks learn from mixed unlabelled images, and no longer from
            labelled ones, what the other one said of their parts.
        cutmix, cutmix_prob, cutmix_area: not read; the boxes of ``mixing`` have a law of their own.
    """
    cps_weight: float | None = said(None, 'weight of the cross supervision')
    mixing: bool = said(False, 'CutMix by three boxes')

    def __post_init__(self):
        super().__post_init__()
        if self.cps_weight is None:
            self.cps_weight = USUAL[self.mixing][0]


@MODELS.register_module()
class CPS(SemiSegmentor):
    """Each network learns the other one's classes, of weak views alone, without a threshold.

    One config, two initialisations: the heads start apart, and must. Weights of a whole segmentor
    (load_from) fill both alike. Unlike the release, padding does not count, nor do pixels that the
    labels ignore.

    With ``mixing``, the boxes are filled from another image of the batch, by one random shift for
    all; the release takes a second loader, which under one seed gives the same image in another
    crop. A second pass over the same images would say the same, so there is one where the release
    has two. A batch of one unlabelled image is left unmixed.
    """
    cfg_class = CPSTrainCfg
    apart = True
    roles = {'student': Role(), 'student2': Role()}

    @classmethod
    def name_of(cls, cfg):
        return 'CPS + CutMix' if cfg.mixing else 'CPS'

    @classmethod
    def published_as(cls, cfg):
        return 'CPS' if cfg.cps_weight in USUAL[cfg.mixing] else None

    @classmethod
    def passes(cls, cfg):
        if cfg.mixing:  # both networks label, then both learn
            return dict(labeled=(6, 6), unlabeled=(8, 8))
        labeled = 6 if cfg.joint_forward else 12  # losses and logits by a forward each
        return dict(labeled=(labeled, labeled), unlabeled=(6, 6))

    def step(self, batch):
        losses, logits, labels, valid = (self._mixed if self.cfg.mixing else self._plain)(batch)
        terms = [pseudo_cross_entropy(mine, theirs, valid, valid, divisor=self.divisor)
                 for mine, theirs in zip(logits, labels[::-1])]
        losses['loss_cps'] = self.ramp() * self.cfg.cps_weight * sum(terms)
        self.diagnostics.add('agreement', ((labels[0] == labels[1]) & valid).sum()
                             / valid.sum().clamp(min=1))
        return losses

    def _plain(self, batch):
        """Both networks' logits of all images, and the classes that these logits say."""
        losses, logits = {}, []
        for name in self.roles:  # labelled and unlabelled images pass apart
            found, (labeled,), _ = self.train_on(batch, name=name, labeled=True)
            losses.update(found)
            weak = self.see(name, batch.weak, grad=True)
            logits.append(torch.cat([labeled.logits, weak.logits]))
        return losses, logits, [pseudo_label(x)[0] for x in logits], batch.known

    def _mixed(self, batch):
        """Both networks' logits of the mixed images, and the mix of what they say unmixed."""
        weak, num = batch.weak, len(batch.weak)
        # in training mode, as in the release: batch norm gathers statistics here too
        labels = [pseudo_label(self.see(name, weak).logits)[0] for name in self.roles]
        boxes = cutmix_masks_xor(num, tuple(weak.shape[-2:]), device=weak.device)
        shift = torch.randint(1, num, ()).tolist() if num > 1 else 0  # on the host
        images, valid, *labels = (mix(x, boxes, shift=shift) for x in (weak, batch.valid, *labels))
        losses, logits = {}, []
        for name in self.roles:
            losses.update(self.train_on(batch, name=name)[0])
            logits.append(self.see(name, images, grad=True).logits)
        return losses, logits, labels, valid
