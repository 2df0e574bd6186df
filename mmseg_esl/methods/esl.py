"""ESL (Ma et al., ICCV 2023): soft labels of the dominant classes, and a pixel-to-part contrast."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..functional import at_least_float, soft_cross_entropy, soft_target
from ..functional.phases import phase
from ..models.pixel_to_part import PixelToPart
from ..models.probe import on_empty_image
from ..models.projector import build_projector
from ..models.running import running
from ..models.segmentors import classifiers, main_head
from ..semi import Role, SemiSegmentor, SemiTrainCfg, Tap, connected_zero, network, said, under

TITLES = {'sup': 'supervised', 'dsl+ctr': 'ESL', 'dsl': 'CE + DSL', 'hard': 'CE + hard label',
          'hard+ctr': 'CE + hard label + CTR', 'topk': 'CE + top-{}',
          'topk+ctr': 'CE + top-{} + CTR'}
CONTRAST = under('contrast', True)


@dataclass
class ESLTrainCfg(SemiTrainCfg):
    """Keys of ESL's ``semi_train_cfg``; the defaults are the paper's unless called our choice.

    Args:
        variant: 'dsl+ctr' is ESL. 'sup' trains on labelled images alone, beside a teacher; 'dsl',
            'hard', 'topk' name the pseudo label, '+ctr' adds the pixel-to-part contrast.
        confidence: zeta, at least 0.5, so that an unlabelled pixel is anchor of one class only.
        max_anchors: of a class (None: as many as ``anchor_fraction`` makes, the paper's method).
        num_negatives, temperature: of InfoNCE.
        negatives: 'shared' (our choice) or 'independent' draws, see functional.part_contrast.
        part_resolution: parts are grouped at that of the 'embedding' (our choice), or 'image'.

    Under gradient accumulation the contrast, unlike all other terms, is not that of the large
    batch: queues fill between micro-batches, each averages its own anchors (docs/scaling.md).
    """
    variant: str = said('dsl+ctr', 'variant')
    mass: float = said(0.95, 'η, mass of the dominant classes', under('label', 'dsl'), 'eta={:.2f}')
    topk: int = said(5, 'k of the top-k label', under('label', 'topk'))
    sce_weight: float = said(0.2, 'λ₁, weight of the soft cross entropy',
                             under('label', 'dsl', 'hard', 'topk'), 'lambda1={:g}')
    ctr_weight: float = said(0.1, 'λ₂, weight of the contrast', CONTRAST, 'lambda2={:g}')
    confidence: float = said(0.95, 'ζ, confidence of anchors', CONTRAST)
    anchor_fraction: float = said(0.1, 'share of anchors', CONTRAST)
    max_anchors: int | None = None
    num_negatives: int = said(255, 'negatives', CONTRAST)
    temperature: float = said(0.5, 'temperature', CONTRAST)
    negatives: str = 'shared'
    part_resolution: str = 'embedding'

    samplings = ('batch', 'image')

    def __post_init__(self):
        super().__post_init__()
        self.check_choice('variant', *TITLES)
        self.label, _, contrast = self.variant.partition('+')
        self.contrast = bool(contrast)
        self.check_share('mass', 'confidence', 'anchor_fraction')
        self.check_positive('mass', 'anchor_fraction', 'temperature', 'topk', 'num_negatives')
        if self.confidence < 0.5:
            raise ValueError('semi_train_cfg.confidence (zeta) must be at least 0.5, or a pixel '
                             f'could be anchor of two classes; got {self.confidence}')
        self.check_choice('part_resolution', 'embedding', 'image')
        self.check_choice('negatives', 'shared', 'independent')
        if self.sampling == 'image' and self.contrast and self.negatives == 'independent':
            raise ValueError("semi_train_cfg.sampling='image' has one draw of negatives per part: "
                             "set negatives='shared', or sampling='batch'")


@MODELS.register_module()
class ESL(SemiSegmentor):
    """Enhanced Soft Label training of any EncoderDecoder.

    Args:
        projector: config of the embedding network; only '+ctr' has it, and ``part_memory``.
        part_memory: config of :class:`PartMemory` (num_parts, queue_length, momentum).
        embedding: dotted path, within the segmentor, of the module whose input it reads. That of
            the classifier lies behind the head's dropout (our choice: all heads have it).
        others: see :class:`SemiSegmentor`; ``semi_train_cfg``: :class:`ESLTrainCfg`.
    """
    cfg_class = ESLTrainCfg

    @classmethod
    def roles_of(cls, cfg):
        roles = {'student': Role(), 'projector': Role(plain=False), 'teacher': Role('student'),
                 'teacher_projector': Role('projector', plain=False)}
        return roles if cfg.contrast else {n: r for n, r in roles.items() if r.plain}

    @classmethod
    def hooks_of(cls, cfg):
        return (*cls.hooks, 'PartInitHook') if cfg.contrast else cls.hooks

    @classmethod
    def name_of(cls, cfg):
        return TITLES[cfg.variant].format(cfg.topk)

    @classmethod
    def published_as(cls, cfg):
        return 'Sup baseline' if cfg.label == 'sup' else cls.name_of(cfg)

    @classmethod
    def passes(cls, cfg):
        if cfg.label == 'sup':
            return dict(labeled=(3, 3), unlabeled=(0, 0))
        labeled = 4 if cfg.contrast else 3  # the teacher sees them for their parts only
        return dict(labeled=(labeled, labeled), unlabeled=(4, 4))

    @classmethod
    def fallbacks(cls, net):
        return [*((dict(embedding=path), f"the projector reads the input of '{path}'")
                  for path in classifiers(net)),
                (dict(semi_train_cfg=dict(variant='dsl')), 'soft labels without the part-contrast')]

    def build_own(self, projector=None, part_memory=None, embedding='decode_head.conv_seg'):
        self.embedding, self.part_memory = embedding, None
        if not self.cfg.contrast:
            return
        try:
            module, _ = network.tapped(self.student, embedding)
        except ValueError as error:
            raise ValueError(f"{error} (semi_train_cfg.variant='dsl')") from error
        norm = getattr(main_head(self.student), 'norm_cfg', None)
        self.projector = self.here(build_projector(module, embedding, projector or {}, norm))
        self.part_memory = MODELS.build({
            'type': 'PartMemory', **(part_memory or {}), 'num_classes': self.num_classes,
            'feat_channels': self._probe_encoder(), 'embed_channels': self.projector.out_channels})

    def step(self, batch):
        cfg, ramp = self.cfg, self.ramp()
        if cfg.label == 'sup':
            return self.supervised(batch, company=False)
        contrast = cfg.contrast and self._contrast_ready()
        # Sec. 3.1: the teacher sees weak views; labelled images pass it for their parts only
        teacher = self.see('teacher', batch.images if contrast else batch.weak, encoder=contrast,
                           tap=self._tap('teacher_projector'), num_logits=len(batch.weak))
        self.watch.images('teacher logits of image', teacher.logits,
                          batch.samples[batch.num_labeled:])
        draws, valid = self.draws(batch), batch.valid
        with torch.no_grad():  # Sec. 3.2: dynamic soft label
            probs = at_least_float(teacher.logits).softmax(dim=1)
            teacher.logits = None  # large, and no longer needed
            with phase('soft label'):
                target, size = soft_target(probs, cfg.label, mass=cfg.mass, k=cfg.topk)
            confidence, pseudo = probs.max(dim=1)
            self._log_soft_label(size, confidence, valid)
            strong = self.strong(batch.weak, draws)
            del probs
            target = strong.mix(target)
        losses, (student,), z = self.train_on(batch, strong.images, tap=self._tap('projector'))
        with phase('soft cross entropy'):
            losses['loss_sce'] = ramp * cfg.sce_weight * soft_cross_entropy(
                student.logits, target, strong.mix(valid), divisor=self.divisor)
        if contrast:  # Sec. 3.3, by ground truth where there is one
            classes = torch.cat([batch.truth, torch.where(valid, pseudo, -1)])
            losses['loss_ctr'] = ramp * cfg.ctr_weight * PixelToPart(self).loss(
                teacher, z, classes, confidence, strong, batch, draws)
        elif cfg.contrast:
            losses['loss_ctr'] = connected_zero(self.projector)
        return losses

    def supervised(self, batch, company=True):
        # in the warm-up, too, the projector gathers its batch-norm statistics
        return super().supervised(batch, company, tap=self._tap('projector'))

    def _contrast_ready(self) -> bool:
        if self.part_memory.active is None:
            raise RuntimeError('nobody initialises the part prototypes: add '
                               "dict(type='PartInitHook') to the hooks, or train variant 'dsl'")
        return self.part_memory.active

    def _log_soft_label(self, size: Tensor, confidence: Tensor, valid: Tensor) -> None:
        total = valid.sum().clamp(min=1)
        for name, value in (('dominant/1', size == 1), ('dominant/2', size == 2),
                            ('dominant/3_or_more', size >= 3), ('dominant/mean', size),
                            ('confidence', confidence)):
            self.diagnostics.add(name, (value * valid).sum() / total)

    def _tap(self, projector: str) -> Tap | None:
        return Tap(self.embedding, getattr(self, projector)) if self.cfg.contrast else None

    def _probe_encoder(self) -> int:
        """Channels of the backbone's last stage, by running it once on an empty image."""
        return on_empty_image(self.student, lambda image: self.see(
            'student', image, mode='eval', encoder=True)).encoder.size(1)

    def weak_view(self, images, encoder=False):
        tap = self._tap('teacher_projector')
        with running(tap.project if tap else self.teacher, 'eval'):
            return self.see('teacher', images, mode='eval', encoder=encoder, tap=tap)

    @property
    def tapped(self):
        return (self.embedding,) if self.cfg.contrast else ()
