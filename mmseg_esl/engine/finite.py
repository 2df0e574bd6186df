"""Which tensors may hold infinities: one rule for whoever looks for values that are not finite."""
from __future__ import annotations

import torch

from .unwrap import unwrap


def is_finite(x: torch.Tensor) -> bool:
    return not x.is_floating_point() or bool(x.isfinite().all())


def infinite_by_design(runner) -> set[str]:
    """Names of the model's tensors that may be infinite; asked before the first step.

    Buffers that are infinite (not NaN) then, such as the mask of an attention, and whatever
    ``SemiCheckpointHook.may_be_infinite`` names.
    """
    model = unwrap(runner.model)
    named = [part for hook in runner.hooks for part in getattr(hook, 'may_be_infinite', ())]
    return ({name for name, buffer in model.named_buffers()
             if not is_finite(buffer) and not bool(buffer.isnan().any())}
            | {name for name in model.state_dict() if any(part in name for part in named)})
