"""State that a step changes and that must not outlive a step that never happened."""
from __future__ import annotations

import warnings

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

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Take a checkpoint's memory whole or not at all: half of one would be silently wrong."""
        own = {f'{prefix}{name}': buffer for name, buffer in self.named_buffers()
               if name not in self._non_persistent_buffers_set}
        given = [key for key in own if key in state_dict]
        if given and any(k not in state_dict or state_dict[k].shape != v.shape
                         for k, v in own.items()):
            warnings.warn(f'the checkpoint\'s {type(self).__name__} is of another size (classes, '
                          'lengths or width): it is left out, and starts anew')
            for key in given:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
