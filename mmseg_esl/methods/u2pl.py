"""U2PL (Wang et al., CVPR 2022): pixels too uncertain to be labelled serve as negatives."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.dist import all_gather, all_reduce
from mmseg.registry import MODELS
from torch import Tensor

from ..functional import (
    PixelsByClass,
    at_least_float,
    class_contrast,
    class_weights,
    cosines,
    nearest,
    negative_classes,
    part_sums,
    percentile,
    prediction_entropy,
    pseudo_cross_entropy,
    pseudo_label,
)
from ..functional.phases import phase
from ..models.projector import build_projector
from ..models.segmentors import classifiers, main_head
from ..semi import Role, SemiSegmentor, SemiTrainCfg, Tap, network, said


@dataclass
class U2PLTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``; the defaults are the release's unless said otherwise.

    Args:
        unlabeled_weight: of the cross entropy with pseudo labels.
        contrast_weight: 0.1, the paper's. The release writes 1 and divides by the GPUs once too
            often: 0.25 on its 4 GPUs for VOC, 0.125 on its 8 for Cityscapes.
        unreliable: share of the unlabelled pixels, those of the highest entropy, that get no label
            at first; it falls to 0 in a straight line over the training. As large a share, of the
            lowest entropy, serves the contrast as anchors and positives.
        anchor_confidence: least probability of its class by which a pixel becomes an anchor.
        low_rank, high_rank: an uncertain pixel is a negative of the classes from the one rank to
            below the other (0: its most probable one); a labelled pixel of the classes before
            ``low_rank`` that are not its own. None: 3, or with few classes C - 1 (our choice: 3
            would leave two classes without any).
        num_anchors: of a class, in a step of one process. num_negatives: of an anchor.
        temperature: of InfoNCE.
        indexing: 'class'; 'release': as in its code and figures the i-th class that is present
            lends its queue to class i, and classes beyond their number go without.
    """
    unlabeled_weight: float = said(1.0, 'weight of the unlabelled images')
    contrast_weight: float = said(0.1, 'weight of the contrast')
    unreliable: float = said(0.2, 'share without a label at first')
    anchor_confidence: float = said(0.3, 'confidence of anchors')
    low_rank: int | None = None
    high_rank: int = 20
    num_anchors: int = said(256, 'anchors of a class')
    num_negatives: int = said(50, 'negatives of an anchor')
    temperature: float = said(0.5, 'temperature of the contrast')
    indexing: str = 'class'

    def __post_init__(self):
        super().__post_init__()
        self.check_share('unreliable', 'anchor_confidence')
        self.check_positive('num_anchors', 'num_negatives', 'temperature')
        self.check_choice('indexing', 'class', 'release')
        if self.low_rank is not None and not 0 < self.low_rank < self.high_rank:
            raise ValueError('semi_train_cfg.low_rank must be above 0 and below high_rank')


@MODELS.register_module()
class U2PL(SemiSegmentor):
    """Certain pixels are labelled, uncertain ones tell what a class is not.

    Unlike the release: padding is no pixel; percentiles, queues and positives are all ranks'
    (``global_average``); labelled pixels are negatives too, as in the paper, where a mask in the
    code leaves none of them; the teacher is in eval mode and averages batch-norm statistics, from
    the first step on (``teacher_mode``, ``ema_buffers``).

    Args:
        projector: config of the representation head. class_queues: of :class:`ClassQueues`.
        embedding: dotted path, within the segmentor, of the module whose input the head reads:
            the classifier. The paper's is the decoder's first one, see configs/u2pl/method.py.
        others: see :class:`SemiSegmentor`; ``semi_train_cfg``: :class:`U2PLTrainCfg`.
    """
    cfg_class = U2PLTrainCfg
    title = 'U2PL'
    roles = {'student': Role(), 'projector': Role(plain=False), 'teacher': Role('student'),
             'teacher_projector': Role('projector', plain=False)}

    @classmethod
    def published_as(cls, cfg):
        return 'U2PL'

    @classmethod
    def passes(cls, cfg):  # the teacher looks at weak views, then at what the student sees
        return dict(labeled=(4, 4), unlabeled=(5, 5))

    @classmethod
    def fallbacks(cls, net):
        return [(dict(embedding=path), f"the representation head reads the input of '{path}'")
                for path in classifiers(net)]

    def build_own(self, projector=None, class_queues=None, embedding='decode_head.conv_seg'):
        self.embedding, self.tapped = embedding, (embedding,)
        module, _ = network.tapped(self.student, embedding)
        self.projector = self.here(build_projector(
            module, embedding, {'type': 'RepresentationHead', **(projector or {})},
            getattr(main_head(self.student), 'norm_cfg', None)))
        self.class_queues = MODELS.build({
            'type': 'ClassQueues', **(class_queues or {}), 'num_classes': self.num_classes,
            'channels': self.projector.out_channels})

    def step(self, batch):
        cfg, ramp, num = self.cfg, self.ramp(), batch.num_labeled
        labels, _ = pseudo_label(self.see('teacher', batch.weak, mode='eval').logits)
        strong = self.strong(batch.weak)
        labels, valid = strong.mix(labels), strong.mix(batch.valid)
        losses, (student,), z = self.train_on(
            batch, strong.images, tap=Tap(self.embedding, self.projector))
        images = torch.cat([batch.labeled, strong.images])
        teacher = self.see('teacher', images, tap=Tap(self.embedding, self.teacher_projector))
        self.watch.images('teacher logits of image', teacher.logits, batch.samples)
        # pixels too uncertain for a label, fewer and fewer
        share = cfg.unreliable * (1 - self.progress)
        entropy = torch.where(valid, prediction_entropy(teacher.logits[num:]), torch.inf)
        certain, uncertain = self._bounds(entropy, share)
        keep = valid & (entropy < uncertain)
        count = self.divisor or (lambda x: x.clamp(min=1))
        loss = pseudo_cross_entropy(student.logits, labels, keep, keep, divisor=self.divisor)
        growth = count(valid.sum()).to(loss.dtype) / count(keep.sum())  # few count for many
        losses['loss_u'] = ramp * cfg.unlabeled_weight * growth * loss
        # by ground truth where there is one
        known = batch.truth
        classes = torch.cat([known, torch.where(valid, labels, -1)])
        anchor = torch.cat([known >= 0, valid & (entropy <= certain)])
        losses['loss_contrast'] = ramp * cfg.contrast_weight * self._contrast(
            teacher, z, classes, anchor, torch.cat([known >= 0, valid & ~keep]), num)
        self.diagnostics.add('kept', keep.sum() / valid.sum().clamp(min=1))
        return losses

    def supervised(self, batch, company=True):
        # in the warm-up, too, the head gathers its batch-norm statistics
        return super().supervised(batch, company, tap=Tap(self.embedding, self.projector))

    def _bounds(self, entropy: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Entropies below and above which a share of the pixels lies, of all ranks if wanted."""
        if self.divisor is not None:
            entropy = torch.cat(all_gather(entropy))
        return percentile(entropy, share), percentile(entropy, 1 - share)

    @phase('contrast')
    def _contrast(self, teacher, z, classes, reliable, negative, num: int) -> Tensor:
        """Certain pixels are drawn to their class's mean and away from its queue.

        ``(B, H, W)``: classes long, -1 where unknown; reliable, negative bool.
        """
        cfg, size, queues = self.cfg, z.shape[-2:], self.class_queues
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            logits, classes, reliable, negative = (nearest(x, size, self.align_corners) for x in (
                teacher.logits, classes, reliable, negative))
            members = torch.where(reliable, classes, -1)
            queues.stage(teacher.embedding, negative_classes(
                logits, classes, negative, num, high_rank=cfg.high_rank,
                low_rank=cfg.low_rank or min(3, self.num_classes - 1)), num)
            # sums in place of means: their direction counts alone
            means, counts = (x.sum(dim=0) for x in part_sums(
                teacher.embedding, members, self.num_classes))
            if self.divisor is not None:
                all_reduce(means)
                all_reduce(counts)
            present = counts > 0
            own = at_least_float(logits).softmax(dim=1).gather(1, members.clamp(min=0)[:, None])
            anchors = torch.where(own[:, 0] > cfg.anchor_confidence, members, -1)
            anchors = PixelsByClass.of(anchors.flatten(), self.num_classes)
            lender, counted = self._lenders(present)
            usable = counted & (anchors.count > 0) & (queues.filled[lender] > 0)
            weights = class_weights(usable, counted, cfg.num_anchors, self.divisor)
            owner = torch.arange(self.num_classes * cfg.num_anchors, device=z.device)
            owner = owner.div(cfg.num_anchors, rounding_mode='floor')
            like_draw = dict(dtype=torch.float64, device=z.device)
            pixel = anchors.pick(owner, torch.rand(owner.shape, **like_draw))
            slots = (torch.rand(*owner.shape, cfg.num_negatives, **like_draw)
                     * queues.filled[lender[owner], None]).long()
        with torch.autocast(z.device.type, enabled=False):
            image = pixel.div(size.numel(), rounding_mode='floor')
            picked = z.flatten(2)[image, :, pixel % size.numel()]
            return class_contrast(
                at_least_float(picked), means[owner], lambda unit, some: cosines(unit, queues.read(
                    lender[owner[some], None].expand(-1, cfg.num_negatives), slots[some])),
                weights[owner], cfg.num_negatives, cfg.temperature)

    def _lenders(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Whose queue each class is compared with ``(C,)``, and the classes that count ``(C,)``."""
        every = torch.arange(self.num_classes, device=present.device)
        if self.cfg.indexing == 'class':
            return every, present
        return (~present).long().argsort(stable=True), every < present.sum()
