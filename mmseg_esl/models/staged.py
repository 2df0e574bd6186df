"""State that a step changes and that must not outlive a step that never happened."""
from __future__ import annotations

from torch import nn


class Staged(nn.Module):
    """A memory whose changes are staged: final with the optimiser's step, undone without it.

    Its buffers are saved with the model.
    """

    def prepare_trial(self) -> None:
        """Stand in for what a hook does before training, for one step on noise."""

    def commit(self) -> None:
        """The optimiser has stepped: make what is staged final."""
        raise NotImplementedError

    def rollback(self) -> None:
        """It has not: take what is staged back, bit for bit."""
        raise NotImplementedError
