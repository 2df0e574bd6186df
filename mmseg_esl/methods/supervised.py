"""The supervised baseline: labelled images alone, on the lists and schedule of the others."""
from __future__ import annotations

from dataclasses import dataclass

from mmseg.registry import MODELS

from ..semi import Role, SemiSegmentor, SemiTrainCfg


@dataclass
class SupervisedTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``.

    Args:
        average: keep the student's moving average as ``teacher`` too: what an average alone brings
            (our option; the tables' baselines have none).
    """
    average: bool = False


@MODELS.register_module()
class Supervised(SemiSegmentor):
    """Supervised training inside the frame, so that a comparison differs in the method alone.

    Unlabelled images in a batch are not looked at: ask the sampler for none.
    """
    cfg_class = SupervisedTrainCfg
    title = 'supervised'

    @classmethod
    def roles_of(cls, cfg):
        student = {'student': Role()}
        return {**student, 'teacher': Role('student')} if cfg.average else student

    @classmethod
    def published_as(cls, cfg):
        return None if cfg.average else 'Sup baseline'

    @classmethod
    def passes(cls, cfg):
        return dict(labeled=(3, 3), unlabeled=(0, 0))

    def step(self, batch):
        return self.supervised(batch, company=False)
