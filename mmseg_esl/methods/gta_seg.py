"""GTA-Seg (Jin et al., NeurIPS 2022): an assistant learns pseudo labels, a student its features."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.dist import all_gather
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..functional import ema_update, percentile, pseudo_label, weighted_cross_entropy
from ..models.segmentors import main_head
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class GTASegTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``; the defaults are the release's.

    Args:
        unlabeled_weight: of the assistant's cross entropy with pseudo labels.
        dropped: share of the unlabelled pixels, those of the least confidence, that do not count.
        ema_momentum: of the teacher, and of what the student takes from the assistant.
    """
    unlabeled_weight: float = said(1.0, 'weight of the unlabelled images')
    dropped: float = said(0.2, 'share without a label')
    ema_momentum: float = said(0.999, 'EMA momentum')

    def __post_init__(self):
        super().__post_init__()
        self.check_share('dropped')


@MODELS.register_module()
class GTASeg(SemiSegmentor):
    """Pseudo labels train the assistant alone, ground truth the student alone.

    After each step the teacher follows the student, then the student's features, not its
    classifier, move a little towards the assistant's. In the warm-up the assistant is a copy of the
    student.

    Both take their steps together, after one backward pass: one verdict, one loss scale, one
    schedule. Two SGDs of disjoint parameters are one SGD, so that only the order differs: in the
    release the assistant's step comes before the transfer and the student's forward, here the
    student meets it one iteration later. Its assistant's rate stays constant while the student's
    falls; ours falls too. Its copy at the start lets the two share the classifier's storage for
    good, which is not followed. Padding does not count, the teacher is in eval mode and averages
    its batch-norm statistics (``teacher_mode``, ``ema_buffers``).

    Args:
        classifier: parts of the decode head (of a cascade's last one) that the student keeps to
            itself. The release's is all of the decoder, see configs/gta_seg/method.py; here by
            default the last layer, where all of mmseg's heads agree.
        others: see :class:`SemiSegmentor`; ``semi_train_cfg``: :class:`GTASegTrainCfg`.
    """
    cfg_class = GTASegTrainCfg
    title = 'GTA-Seg'
    roles = {'student': Role(), 'assistant': Role(), 'teacher': Role('student')}
    warmed = ('student', )  # which the assistant follows

    @classmethod
    def published_as(cls, cfg):
        return 'GTA-Seg'

    @classmethod
    def passes(cls, cfg):  # the teacher twice, labelled images only where they change its batches
        labeled = 7 if cfg.teacher_mode == 'train' else 6
        return dict(labeled=(labeled, labeled), unlabeled=(8, 8))

    @classmethod
    def fallbacks(cls, net):
        return [(dict(classifier=('conv_seg',)), 'the student keeps its last layer to itself')]

    def build_own(self, classifier=('conv_seg',)):
        head = main_head(self.student)
        parts = dict(head.named_children())
        for name in classifier:
            if name not in parts:
                raise ValueError(f"classifier: {type(head).__name__} has no part '{name}'; choose "
                                 f'from {", ".join(parts)}')
        if self.assistant.with_auxiliary_head:  # nothing would train it
            self.assistant.auxiliary_head.requires_grad_(False)
        own = nn.ModuleList([parts[name] for name in classifier]).parameters()
        own = {id(p) for p in own}
        self.shared = [name for name, p in self.student.named_parameters()
                       if id(p) not in own and not name.startswith('auxiliary_head')]

    def init_weights(self):
        super().init_weights()
        ema_update(self.assistant, self.student, 0.0)

    def step(self, batch):
        cfg, num = self.cfg, len(batch.weak)
        labels, _ = pseudo_label(self.see('teacher', batch.weak, mode='eval').logits)
        strong = self.strong(batch.weak)
        labels, valid = strong.mix(labels), strong.mix(batch.valid)
        images = torch.cat([batch.labeled, strong.images])
        # how sure the teacher is of what the assistant sees
        seen = images if cfg.teacher_mode == 'train' else strong.images
        teacher = self.see('teacher', seen, num_logits=num)
        self.watch.images('teacher logits of image', teacher.logits,
                          batch.samples[batch.num_labeled:])
        _, confidence = pseudo_label(teacher.logits)
        kept = valid & (confidence > self._bound(confidence, valid))
        # the student: ground truth alone; mixed images are company for its batch norm
        losses, _, _ = self.train_on(batch, strong.images)
        # the assistant: pseudo labels alone; labelled images are company for its batch norm
        logits = self.see('assistant', images, grad=True, num_logits=num).logits
        sure = confidence * kept  # a pixel that is dropped still counts 1 in the divisor
        losses['loss_assistant'] = self.ramp() * cfg.unlabeled_weight * weighted_cross_entropy(
            logits, labels, (sure + 1) * kept, ((sure + 1) * valid).sum(), divisor=self.divisor)
        self.diagnostics.add('kept', kept.sum() / valid.sum().clamp(min=1))
        return losses

    def after_optimizer_step(self, step):
        used = super().after_optimizer_step(step)
        if self.ramp() == 0:  # the warm-up
            ema_update(self.assistant, self.student, 0.0)
        else:
            self._pass_on(self.momentum('student', step))
        return used

    @torch.no_grad()
    def _pass_on(self, momentum: float) -> None:
        """Student <- momentum * student + (1 - momentum) * assistant, but for the classifier."""
        mine, theirs = (dict(net.named_parameters()) for net in (self.student, self.assistant))
        torch._foreach_lerp_([mine[name] for name in self.shared],
                             [theirs[name] for name in self.shared], 1 - momentum)

    def _bound(self, confidence: Tensor, valid: Tensor) -> Tensor:
        """Confidence up to which pixels are dropped, of all ranks' pixels if wanted."""
        known = torch.where(valid, confidence, torch.inf)
        if self.divisor is not None:
            known = torch.cat(all_gather(known))
        return percentile(known, self.cfg.dropped)
