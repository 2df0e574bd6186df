"""Running sums that torch's deterministic mode does not refuse."""
from __future__ import annotations

import torch
from torch import Tensor


def cumsum_refused(device: torch.device) -> bool:
    """Whether ``cumsum`` of floats raises: on CUDA, where deterministic kernels are asked for."""
    return device.type == 'cuda' and torch.are_deterministic_algorithms_enabled()


def running_sum(x: Tensor, dim: int) -> Tensor:
    """``x.cumsum(dim)`` of floats, one entry after the other where torch has no steady kernel.

    Args:
        x: float, of any shape; ``dim`` should be short: there, each entry is an operation.
    """
    if not cumsum_refused(x.device):
        return x.cumsum(dim)
    first, *rest = x.unbind(dim)
    sums = [first]
    for entry in rest:
        sums.append(sums[-1] + entry)
    return torch.stack(sums, dim)
