"""How weights rise at the beginning of training."""
from __future__ import annotations

import math

RAMPS = {
    'linear': lambda x: x,
    'cosine': lambda x: (1 - math.cos(math.pi * x)) / 2,
    'sigmoid': lambda x: math.exp(-5 * (1 - x) ** 2),
    'log': lambda x: 1 - math.exp(-5 * x),
}


def ramp(done: float, shape: str = 'linear') -> float:
    """Factor of a weight after a share of the ramp.

    Args:
        done: the share; below 0 it counts as 0, above 1 as 1.
        shape: 'linear', 'cosine', 'sigmoid' (starts at 0.0067, not 0) or 'log' (ends at 0.9933).

    Returns:
        in [0, 1].
    """
    return RAMPS[shape](min(max(done, 0.0), 1.0))
