"""Runs of two weights that SemiCheckpointHook saves, and what they leave on the disk."""
import zipfile

import torch
from line import Numbers, make_runner
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook

import mmseg_esl.register  # noqa: F401  (so that the hook is known)

BEST = dict(interval=2, max_keep_ckpts=1, save_best='score', rule='greater')


def hook(**changes):
    return dict(dict(type='mmseg.SemiCheckpointHook', by_epoch=False, interval=2), **changes)


class Scripted(BaseMetric):
    """The scores that a test wrote down: a number or a dict of each validation."""

    def __init__(self, scores):
        super().__init__()
        self.scores = list(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        found = self.scores.pop(0)
        return found if isinstance(found, dict) else dict(score=found)


def validation(scores, workers=0):
    return dict(
        val_dataloader=dict(batch_size=8, num_workers=workers, dataset=Numbers(),
                            sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(type='ValLoop'), val_evaluator=Evaluator([Scripted(scores)]))


def train(folder, max_iters, resume=False, hooks=(), **changes):
    options = {key: changes.pop(key) for key in ('default_hooks', 'load_from') if key in changes}
    if 'scores' in changes:
        options.update(
            validation(changes.pop('scores'), changes.pop('val_workers', 0)),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=2))
    runner = make_runner(folder, max_iters, checkpoint=hook(**changes), resume=resume,
                         custom_hooks=list(hooks), **options)
    runner.train()
    return runner


def iteration(path):
    """What is in a checkpoint, read without mmseg_esl and without an allow-list."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    return torch.load(path, weights_only=True)['meta']['iter']


def names(folder):
    """All files, but the config that mmengine dumps."""
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix != '.py')


class Before(Hook):
    """Calls a function before ``what``, such as an iteration."""

    def __init__(self, what, call):
        setattr(self, f'before_{what}', call)
