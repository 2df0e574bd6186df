"""An optimiser of what is trained, and of nothing else."""
from __future__ import annotations

import copy

from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .hooks.teacher_hook import unwrap


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor:
    """Build the optimiser from the student and the projector, under the student's own names.

    mmengine's default also works, but lists every frozen tensor of the teacher in the log; and
    constructors that look at ``model.backbone`` (layer decay) need the plain segmentor.

    Args:
        optim_wrapper_cfg: as mmengine's.
        paramwise_cfg: as mmengine's; its key ``constructor`` names the constructor that does the
            work, DefaultOptimWrapperConstructor by default.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        paramwise_cfg = dict(paramwise_cfg or {})
        kind = paramwise_cfg.pop('constructor', 'DefaultOptimWrapperConstructor')
        self.inner = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(
            type=kind, optim_wrapper_cfg=optim_wrapper_cfg, paramwise_cfg=paramwise_cfg or None))

    def __call__(self, model):
        model = unwrap(model)
        trained = copy.copy(model.student)  # shallow: the same parameters, one more name
        trained._modules = dict(model.student._modules)
        if model.projector is not None:
            trained._modules['projector'] = model.projector
        return self.inner(trained)
