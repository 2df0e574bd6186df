"""What a test refuses before it begins, as hooks; ``tools/test.py`` adds them."""
from __future__ import annotations

import os.path as osp

from mmengine.hooks import Hook

from ...commands import command
from ...datasets.wrapped import infos
from ...looks.networks import one_network
from ...storage.finite_weights import refuse_infinite
from ...storage.fit import strip_module
from ...storage.keys import networks_in


class Untestable(ValueError):
    """Checkpoint, images and options do not go together; the message is for users."""


class OneNetwork(Hook):
    """Sees to it that the network that is tested is in the checkpoint, before it is loaded.

    Args:
        name: of the network; None: the one that predicted in training.
        plain: the config is a plain segmentor's: give it that network's tensors alone.

    Raises:
        Untestable: the checkpoint has no such network.
    """

    def __init__(self, name: str | None, plain: bool):
        self.name, self.plain = name, plain

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if not networks_in(checkpoint.get('state_dict', checkpoint)):
            if self.name:
                raise Untestable('the checkpoint is of a plain segmentor and holds one network: '
                                 'leave --network out')
            return
        try:
            _, state = one_network(checkpoint, self.name)
        except ValueError as error:
            raise Untestable(f'the checkpoint: {error} (--network)') from error
        if self.plain:
            checkpoint['state_dict'] = state


class Finite(Hook):
    """Refuses weights of a training that diverged; a method's are checked by the method.

    Raises:
        Untestable: names the tensors.
    """
    priority = 'LOWEST'  # after OneNetwork

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        state = strip_module(checkpoint.get('state_dict', checkpoint))
        try:
            refuse_infinite(state, runner.model.state_dict(), runner._load_from)
        except ValueError as error:
            raise Untestable(str(error)) from error


class NamesOnce(Hook):
    """mmseg names what it writes after an image's file alone: two of one name share a result.

    Raises:
        Untestable: names two such images.
    """

    def before_test(self, runner) -> None:
        seen: dict = {}
        for _, info in infos(runner.test_dataloader.dataset):
            path = info.get('img_path', '')
            stem = osp.splitext(osp.basename(path))[0]
            if seen.setdefault(stem, path) != path:
                raise Untestable(f"'{seen[stem]}' and '{path}' would share a result (--out, "
                                 f'--show-dir). Rename one, or use {command("predict")}, which '
                                 'keeps their folders')
