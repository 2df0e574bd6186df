"""Which network is best at the end of a training, and how to have it."""
from __future__ import annotations

import os.path as osp
import shlex

from mmengine.hooks import Hook

from ...commands import command
from ...datasets.files import is_local
from ..unwrap import unwrap

METRIC = 'mIoU'


class BestNetworkHook(Hook):
    """Says, after the last iteration, which network is best, by how much, and how to export it.

    By the last validation's mIoU; nothing where there was none, or the model is no method's.
    """
    priority = 'LOWEST'  # the last word

    def before_train(self, runner) -> None:
        self.scores = {}

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.scores = {key[:-len(METRIC) - 1]: float(value) for key, value in
                       (metrics or {}).items() if key.endswith(f'/{METRIC}')}
        self.iteration = runner.iter

    def after_train(self, runner) -> None:
        checkpoint = runner.message_hub.runtime_info.get('last_ckpt')
        predicts = getattr(unwrap(runner.model), 'semi_test_cfg', {}).get('predict_on')
        if self.scores and predicts:
            runner.logger.info(sentence(self.scores, self.iteration, predicts, checkpoint))


def sentence(scores: dict[str, float], iteration: int, predicts: str, checkpoint) -> str:
    """What is said of ``{network: mIoU}``.

    Args:
        iteration: of the validation. predicts: the network that the tools take by themselves.
        checkpoint: the last one's path, or None.
    """
    best, *others = sorted(scores, reverse=True,
                           key=lambda name: (round(scores[name], 1), name == predicts))
    said = f'{METRIC} {scores[best]:.1f} at iteration {iteration}'
    ahead = round(scores[best], 1) - round(scores[others[0]], 1) if others else 0
    if ahead:
        said = f'the {best} is better than the {others[0]} by {ahead:.1f} ({said})'
    else:
        said = f'the {" and the ".join([best, *others[:1]])}: {said}'
    if checkpoint:
        path = shlex.quote(osp.relpath(checkpoint) if is_local(checkpoint) else checkpoint)
        said += f': {command("export")} {path} {best}.pth --from {best}'
    if others and best != predicts:
        said += f'. Tools take the {predicts} unless they are told --network {best}'
    return said
