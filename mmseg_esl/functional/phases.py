"""Names for the phases of a training step, to be read in a profiler's trace."""
from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import torch
from torch.profiler import record_function


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Mark what runs in a ``with`` block, or in a function decorated with it, as one phase.

    Phases nest. While no profiler runs this asks one flag and dispatches nothing.

    Args:
        name: how traces and StepProfilerHook's table call it.
    """
    if torch.autograd._profiler_enabled():
        with record_function(name):
            yield
    else:
        yield
