"""ESL+ (ours): ESL's soft labels under strong views, with the classes' shares held."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..functional import (
    align_classes,
    at_least_float,
    complementary_dropout,
    label_weight,
    soft_cross_entropy,
    soft_target,
)
from ..models.class_shares import ClassShares
from ..models.pixel_to_part import PixelToPart
from ..semi import said
from .esl import ESL, ESLTrainCfg


@dataclass
class ESLPlusTrainCfg(ESLTrainCfg):
    """Keys of ESL+'s ``semi_train_cfg``: ESL's, and the following, all our choice.

    Args:
        variant: as ESL's; without the contrast, whose gain beside strong views is not measured,
            unless '+ctr' asks for it.
        weighting: of a pixel's soft label: 'none'; 'confidence', the teacher's largest probability;
            'certainty', 1 - entropy of the soft label / ln C; 'threshold', 1 from ``threshold`` on,
            else 0. The sum is divided by all valid pixels, so weights ramp up by themselves.
        threshold: tau of ``weighting='threshold'``.
        views: strong views of each unlabelled image, 1 or 2; their terms are averaged.
        alignment: strength, in [0, 1], with which the teacher's probabilities are brought to the
            class shares of the labelled pixels (ReMixMatch's distribution alignment); 0: not.
            It wants labelled images that show what the unlabelled ones show, as often.
        alignment_margin: how far, in standard errors of the labelled images' shares, a class may
            be from them: within, it is only kept from fading (``ClassShares.believed``). 0: not.
        clean_share: share of the images whose channels all stay; below 1, the two views of the
            others lose complementary halves of the encoder's channels (UniMatch V2), and labelled
            images pass the student apart.
    """
    variant: str = said('dsl', 'variant')
    weighting: str = said('none', 'pixel weights')
    threshold: float = 0.95
    alignment: float = said(1.0, 'alignment of class shares')
    alignment_margin: float = said(0.0, 'margin of class shares, in standard errors',
                                   lambda method, cfg: cfg.alignment)
    views: int = said(1, 'strong views')
    clean_share: float = said(1.0, 'share of images that lose no channels')
    cutmix: str = 'image'

    def __post_init__(self):
        super().__post_init__()
        self.check_choice('weighting', 'none', 'confidence', 'certainty', 'threshold')
        self.check_choice('views', 1, 2)
        self.check_share('threshold', 'clean_share', 'alignment')
        if not self.alignment_margin >= 0:
            raise ValueError('semi_train_cfg.alignment_margin must be at least 0, got '
                             f'{self.alignment_margin}')
        if self.label == 'sup':
            raise ValueError("semi_train_cfg.variant='sup' is ESL's: train type='Supervised'")
        if self.clean_share < 1 and self.views == 1:
            raise ValueError('semi_train_cfg.clean_share below 1 gives complementary channels to '
                             'two views: set views=2')


@MODELS.register_module()
class ESLPlus(ESL):
    """ESL whose student sees other colours, by labels whose classes keep their shares.

    A soft label needs no threshold to be harmless where the teacher hesitates, so rare classes,
    which are never above 0.95, teach too; aligned, they do not fade from the labels either.
    docs/results/recipe.md has what each part gains.
    """
    cfg_class = ESLPlusTrainCfg

    @classmethod
    def name_of(cls, cfg):
        label = '' if cfg.label == 'dsl' else f' with {cfg.label} labels'
        return f'ESL+{label}' + (' + CTR' if cfg.contrast else '')

    @classmethod
    def published_as(cls, cfg):
        return None

    @classmethod
    def passes(cls, cfg):
        labeled = 4 if cfg.contrast else 3
        unlabeled = 1 + 3 * cfg.views
        return dict(labeled=(labeled, labeled), unlabeled=(unlabeled, unlabeled))

    def build_own(self, *args, **kwargs):
        super().build_own(*args, **kwargs)
        if self.cfg.alignment:
            self.class_shares = ClassShares(self.num_classes, spread=self.cfg.alignment_margin > 0)

    def supervised(self, batch, company=True):
        if self.cfg.alignment:
            self.class_shares.see_labels(batch.truth)
        return super().supervised(batch, company)

    def step(self, batch):
        cfg, ramp, valid = self.cfg, self.ramp(), batch.valid
        contrast = cfg.contrast and self._contrast_ready()
        teacher = self.see('teacher', batch.images if contrast else batch.weak, encoder=contrast,
                           tap=self._tap('teacher_projector'), num_logits=len(batch.weak))
        self.watch.images('teacher logits of image', teacher.logits,
                          batch.samples[batch.num_labeled:])
        draws = self.draws(batch)
        with torch.no_grad():
            probs = at_least_float(teacher.logits).softmax(dim=1)
            teacher.logits = None  # large, and no longer needed
            probs = self._aligned(probs, batch)
            target, size = soft_target(probs, cfg.label, mass=cfg.mass, k=cfg.topk)
            confidence, pseudo = probs.max(dim=1)
            self._log_soft_label(size, confidence, valid)
            target *= label_weight(target, confidence, cfg.weighting, cfg.threshold)[:, None]
            del probs
        views = [self.strong(batch.weak, draws) for _ in range(cfg.views)]
        losses, logits, z = self._students(batch, views)
        terms = [soft_cross_entropy(mine, view.mix(target), view.mix(valid), divisor=self.divisor)
                 for view, mine in zip(views, logits)]
        losses['loss_sce'] = ramp * cfg.sce_weight * sum(terms) / cfg.views
        if contrast:  # its anchors are of the labelled images and the first view
            classes = torch.cat([batch.truth, torch.where(valid, pseudo, -1)])
            losses['loss_ctr'] = ramp * cfg.ctr_weight * PixelToPart(self).loss(
                teacher, z, classes, confidence, views[0], batch, draws)
        return losses

    def _aligned(self, probs: Tensor, batch) -> Tensor:
        if not self.cfg.alignment:
            return probs
        shares = self.class_shares
        shares.see_labels(batch.truth)
        shares.see_predictions(probs, batch.valid)
        margin, wanted = self.cfg.alignment_margin, shares.labeled
        if margin:
            wanted = shares.believed(self.labeled_images, margin)
        return align_classes(probs, wanted, shares.predicted, strength=self.cfg.alignment)

    def _students(self, batch, views) -> tuple[dict, list[Tensor], Tensor | None]:
        """Losses of labelled images, logits of each view, embedding of those and the first."""
        if self.cfg.clean_share == 1:
            losses, seen, z = self.train_on(
                batch, *[view.images for view in views], tap=self._tap('projector'))
            kept = batch.num_labeled + len(batch.weak)
            return losses, [each.logits for each in seen], None if z is None else z[:kept]
        losses, _, z = self.train_on(batch, tap=self._tap('projector'))
        seen = self.see('student', torch.cat([view.images for view in views]), grad=True,
                        tap=self._tap('projector'), perturb=self._drop)
        if z is not None:
            z = torch.cat([z, seen.embedding[:len(batch.weak)]])
        return losses, list(seen.logits.chunk(2)), z

    def _drop(self, feats):
        return complementary_dropout(feats, clean_share=self.cfg.clean_share)
