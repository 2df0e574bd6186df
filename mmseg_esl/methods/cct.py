"""CCT (Ouali et al., CVPR 2020): decoders of perturbed features must agree with the main one."""
from __future__ import annotations

from dataclasses import dataclass

from mmseg.registry import MODELS
from torch import nn

from ..models.segmentors import classifiers
from ..semi import Role, SemiSegmentor, SemiTrainCfg, Tap, network, said


@dataclass
class CCTTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``.

    Args:
        consistency_weight: of the auxiliary decoders' mean squared difference (mean over classes)
            at the end of its sigmoid ramp; 30.
        ramp_iters: the release has a tenth of the training, CPS's authors none.
    """
    consistency_weight: float = said(30.0, 'weight of the consistency')
    ramp_shape: str = 'sigmoid'


@MODELS.register_module()
class CCT(SemiSegmentor):
    """One network; the main decoder labels, its auxiliary ones and the encoder learn.

    There is no second network, no average and no strong view of the images. Decoders are copies of
    the segmentor's classifier (our choice, and that of CPS's authors; the release's upsample by
    pixel shuffles). Unlike the release, padding does not count and has no say in perturbations.

    Args:
        aux_decoders: config of :class:`AuxDecoders`: how many of which kind, and their numbers.
        embedding: dotted path, within the segmentor, of the module whose input is perturbed.
        others: see :class:`SemiSegmentor`; ``semi_train_cfg``: :class:`CCTTrainCfg`.
    """
    cfg_class = CCTTrainCfg
    apart = True
    roles = {'student': Role(), 'aux_decoders': Role(plain=False)}

    @classmethod
    def published_as(cls, cfg):
        return 'CCT' if cfg.consistency_weight == 30 else None

    @classmethod
    def passes(cls, cfg):  # beside them, a classifier of each auxiliary decoder: some 3 % in all
        return dict(labeled=(3, 3), unlabeled=(3, 3))

    @classmethod
    def fallbacks(cls, net):
        return [(dict(embedding=path), f"the input of '{path}' is perturbed")
                for path in classifiers(net)]

    def build_own(self, aux_decoders=None, embedding='decode_head.conv_seg'):
        self.embedding = embedding
        module, _ = network.tapped(self.student, embedding)
        self.aux_decoders = MODELS.build({
            'type': 'AuxDecoders', 'in_channels': getattr(module, 'in_channels', None),
            **(aux_decoders or {}), 'num_classes': self.num_classes})

    def step(self, batch):
        losses, _, _ = self.train_on(batch)  # labelled and unlabelled images pass apart
        main = self.see('student', batch.weak, grad=True, tap=Tap(self.embedding, nn.Identity()))
        losses['loss_cons'] = self.ramp() * self.cfg.consistency_weight * \
            self.aux_decoders.consistency(main.embedding, main.logits, batch.valid,
                                          align_corners=self.align_corners, divisor=self.divisor)
        return losses

    @property
    def tapped(self):
        return (self.embedding,)
