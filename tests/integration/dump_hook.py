"""A hook that writes the model's state on every rank; in configs: ``dump_hook.DumpStateHook``."""
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook


class DumpStateHook(Hook):
    """Save the state dict as ``<folder>/<begin|end>_rank<r>.pth``, before and after training."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _save(self, runner, when):
        model = getattr(runner.model, 'module', runner.model)
        torch.save(model.state_dict(), self.folder / f'{when}_rank{get_rank()}.pth')

    def before_train(self, runner):
        self._save(runner, 'begin')

    def after_train(self, runner):
        self._save(runner, 'end')
