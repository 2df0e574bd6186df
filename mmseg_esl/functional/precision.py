"""Which precision the sums of a loss need."""
from __future__ import annotations

import torch
from torch import Tensor


def at_least_float(x: Tensor) -> Tensor:
    """float32 of a half precision tensor, others as they are (float64 stays float64)."""
    return x.float() if x.dtype in (torch.half, torch.bfloat16) else x
