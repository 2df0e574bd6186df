"""After PC2Seg (Zhong et al., ICCV 2021): consistency of labels, contrast of pixels."""
from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from mmseg.registry import MODELS

from ..functional import at_least_float, cutout_mask, nearest, pixel_contrast, probability_mse
from ..models.projector import build_projector
from ..models.segmentors import classifiers, main_head
from ..semi import Role, SemiSegmentor, SemiTrainCfg, Tap, network, said


@dataclass
class PC2SegTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``. No value is the paper's for certain: see the class.

    Args:
        labels_by: 'student': its own weak view, in training mode, no gradient; 'teacher': a moving
            average (our option, another method).
        consistency_weight, contrast_weight: lambda_1, lambda_2; 1 and 0.1.
        num_negatives, temperature: K and tau of InfoNCE; 200 and 0.1.
        negatives_from: 'other_images' of the rank's batch, or the whole 'batch'.
        debias: 'weighting', 'sampling' or 'none': how negatives that may be of the anchor's class
            are played down, see functional.pixel_contrast.
        cutout: side of a hole in the strong view, pixels, that counts nowhere; 0: none.
        cutmix_prob: must be 0: both views have to show the same pixel in the same place.
    """
    labels_by: str = said('student', 'labels by')
    consistency_weight: float = said(1.0, 'λ₁, weight of the consistency')
    contrast_weight: float = said(0.1, 'λ₂, weight of the contrast')
    num_negatives: int = said(200, 'negatives')
    temperature: float = said(0.1, 'temperature')
    negatives_from: str = said('other_images', 'negatives from')
    debias: str = said('weighting', 'debiasing of negatives')
    cutout: int = 0
    cutmix_prob: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        self.check_choice('cutmix', 'batch', 'image')  # the others mix whatever cutmix_prob is
        self.check_choice('labels_by', 'student', 'teacher')
        self.check_choice('negatives_from', 'other_images', 'batch')
        self.check_choice('debias', 'weighting', 'sampling', 'none')
        self.check_positive('num_negatives', 'temperature')
        if self.cutmix_prob or self.cutout < 0:
            raise ValueError('semi_train_cfg.cutmix_prob must be 0, since pixels of two views are '
                             'compared, and cutout not be negative; got '
                             f'{self.cutmix_prob} and {self.cutout}')


@MODELS.register_module()
class PC2Seg(SemiSegmentor):
    """The strong view is drawn to the weak one: to its probabilities, by their squared difference
    summed over the classes, and, pixel by pixel, to its embedding and away from other images'.

    A reconstruction. The authors published no code, and only the paper's abstract and the beginning
    of its introduction were at hand: they state DeepLabV3+, an L2 consistency in label space, a
    contrast in feature space with several samplings of negatives, and PseudoSeg's settings. The
    rest is plausible and unverified: weights, temperature, number and law of negatives, projector,
    and that there is no further pseudo-label term. Its figures are not to be called PC2Seg's.
    """
    cfg_class = PC2SegTrainCfg
    apart = True
    title = 'PC2Seg-style'

    @classmethod
    def roles_of(cls, cfg):
        roles = {'student': Role(), 'projector': Role(plain=False)}
        if cfg.labels_by == 'student':
            return roles
        return {**roles, 'teacher': Role('student'),
                'teacher_projector': Role('projector', plain=False)}

    @classmethod
    def name_of(cls, cfg):
        return f'{cls.title} + EMA' if cfg.labels_by == 'teacher' else cls.title

    @classmethod
    def passes(cls, cfg):
        return dict(labeled=(3, 3), unlabeled=(4, 4))

    @classmethod
    def fallbacks(cls, net):
        return [(dict(embedding=path), f"the projector reads the input of '{path}'")
                for path in classifiers(net)]

    def build_own(self, projector=None, embedding='decode_head.conv_seg'):
        self.embedding = embedding
        module, _ = network.tapped(self.student, embedding)
        two_layers = dict(type='RepresentationHead', channels=128, num_convs=1, kernel_size=1,
                          dropout=0.0)
        self.projector = self.here(build_projector(
            module, embedding, {**two_layers, **(projector or {})},
            getattr(main_head(self.student), 'norm_cfg', None)))

    def step(self, batch):
        cfg, weak = self.cfg, batch.weak
        losses, _, _ = self.train_on(batch)
        label = self.see(self.labeler, weak, tap=self._tap(
            'projector' if cfg.labels_by == 'student' else 'teacher_projector'))
        strong = self.strong(weak)
        hole = cutout_mask(len(weak), tuple(weak.shape[-2:]), cfg.cutout, device=weak.device)
        valid = batch.valid & ~hole
        view = self.see('student', strong.images.masked_fill(hole[:, None], 0.0), grad=True,
                        tap=self._tap('projector'))
        losses['loss_con'] = self.ramp() * cfg.consistency_weight * probability_mse(
            view.logits, label.logits, valid, over_classes='sum', divisor=self.divisor)
        size = view.embedding.shape[-2:]
        probs = F.interpolate(at_least_float(label.logits).softmax(dim=1), size, mode='bilinear',
                              align_corners=self.align_corners)
        losses['loss_ctr'] = self.ramp() * cfg.contrast_weight * pixel_contrast(
            view.embedding, label.embedding, probs, nearest(valid, size, self.align_corners),
            num_negatives=cfg.num_negatives, temperature=cfg.temperature, debias=cfg.debias,
            other_images=cfg.negatives_from == 'other_images', divisor=self.divisor)
        return losses

    def _tap(self, projector: str) -> Tap:
        return Tap(self.embedding, getattr(self, projector))

    @property
    def tapped(self):
        return (self.embedding,)
