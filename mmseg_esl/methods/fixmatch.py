"""FixMatch (Sohn et al., NeurIPS 2020) for segmentation, as UniMatch's authors have it."""
from __future__ import annotations

from dataclasses import dataclass

from mmseg.registry import MODELS

from ..functional import pseudo_cross_entropy, pseudo_label
from ..semi import Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class FixMatchTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``.

    Args:
        labels_by: 'student': its own weak view, no second network (UniMatch's FixMatch);
            'teacher': its moving average (UniMatch V2's).
        threshold: tau, confidence from which on a pixel counts; 0.95, on Cityscapes 0.
        unlabeled_weight: of the term on the strong view.
        supervised_weight, cutmix, others: as shared by all methods; their code halves both terms
            and draws a box of 2 to 40 % for each image.
    """
    labels_by: str = said('student', 'labels by')
    threshold: float = said(0.95, 'τ, confidence of pseudo labels')
    supervised_weight: float = 0.5
    unlabeled_weight: float = said(0.5, 'weight of the unlabelled images')
    cutmix: str = 'image'

    def __post_init__(self):
        super().__post_init__()
        self.check_choice('labels_by', 'student', 'teacher')


@MODELS.register_module()
class FixMatch(SemiSegmentor):
    """Hard labels of the weak view, where they are confident, teach the strong view.

    The loss is divided by the valid pixels, not by the confident ones: an implicit ramp. Boxes are
    filled from the next image of the batch; the releases take it from a second loader, which under
    one seed gives the same image in another crop.
    """
    cfg_class = FixMatchTrainCfg
    apart = True
    title = 'FixMatch'

    @classmethod
    def roles_of(cls, cfg):
        student = {'student': Role()}
        return {**student, 'teacher': Role('student')} if cfg.labels_by == 'teacher' else student

    @classmethod
    def name_of(cls, cfg):
        return 'FixMatch + EMA' if cfg.labels_by == 'teacher' else 'FixMatch'

    @classmethod
    def published_as(cls, cfg):
        usual = cfg.threshold in (0.95, 0), cfg.supervised_weight, cfg.unlabeled_weight
        return cls.name_of(cfg) if usual == (True, 0.5, 0.5) else None

    @classmethod
    def passes(cls, cfg):
        whole = 4 if cfg.labels_by == 'teacher' else 7
        return dict(labeled=(3, 3), unlabeled=(whole, whole))

    def step(self, batch):
        cfg, weak, valid = self.cfg, batch.weak, batch.valid
        # what fills the boxes is labelled in eval mode
        inside = pseudo_label(self.see(self.labeler, weak, mode='eval').logits)
        if cfg.labels_by == 'teacher':
            losses, _, _ = self.train_on(batch)
            labels, confidence = inside
        else:  # the weak view trains along for its batch-norm statistics; no loss touches it
            losses, (seen,), _ = self.train_on(batch, weak)
            labels, confidence = pseudo_label(seen.logits)
        sure = confidence >= cfg.threshold
        strong = self.strong(weak)
        logits = self.see('student', strong.images, grad=True).logits
        losses['loss_u'] = self.ramp() * cfg.unlabeled_weight * pseudo_cross_entropy(
            logits, strong.mix(labels, inside[0]),
            strong.mix(sure, inside[1] >= cfg.threshold), strong.mix(valid), divisor=self.divisor)
        self.diagnostics.add('confident', (sure & valid).sum() / valid.sum().clamp(min=1))
        return losses
