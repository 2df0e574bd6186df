"""What RunStateHook puts into whose checkpoints, in runs of two weights without images."""
import pytest
import torch
from checkpointed import hook, validation
from line import make_runner
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict

from mmseg_esl.engine.resume.run_state import RunStateHook, collect

KINDS = [dict(type='CheckpointHook', by_epoch=False, interval=2), hook()]


def make(folder, *hooks, scores=(0.5, 0.7), checkpoint=KINDS[0], max_iters=4, **changes):
    return make_runner(
        folder, max_iters, checkpoint=dict(checkpoint, save_best='score', rule='greater'),
        custom_hooks=[RunStateHook(), *hooks], **validation(scores),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=2), **changes)


def state(path):
    return torch.load(path, weights_only=False).get('run_state')


class Draw(Hook):
    """Random numbers before each iteration; and in a validation, if asked."""

    def __init__(self, in_validation):
        self.in_validation, self.found = in_validation, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.found.append(torch.rand(2).tolist())

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.in_validation:
            torch.rand(5)


def test_a_validation_that_draws_leaves_no_trace(tmp_path):
    quiet, loud = Draw(False), Draw(True)
    for name, draw in (('quiet', quiet), ('loud', loud)):
        make(tmp_path / name, draw, randomness=dict(seed=3)).train()
    assert quiet.found == loud.found and len(quiet.found) == 4
    # a best checkpoint is saved after it, and goes on where training does
    before, after = (state(tmp_path / f'{name}/best_score_iter_4.pth')['ranks'][0]['rng']['torch']
                     for name in ('quiet', 'loud'))
    assert torch.equal(before, after)


@pytest.mark.parametrize('checkpoint', KINDS, ids=lambda cfg: cfg['type'])
@pytest.mark.parametrize('last, validated', [(0.7, True), (0.4, False)])
def test_whether_it_was_validated(tmp_path, checkpoint, last, validated):
    """A better score has its iteration saved once more, behind the validation."""
    make(tmp_path, scores=(0.5, last), checkpoint=checkpoint).train()
    found = {path.stem: state(path) for path in tmp_path.glob('*.pth')}
    best = f'best_score_iter_{4 if validated else 2}'
    assert set(found) == {'iter_2', 'iter_4', best}
    for name, each in found.items():
        assert each['iteration'] == int(name[-1])
        assert each['validated'] == (name != 'iter_4' or validated)


class Save(Hook):
    """Saves by itself: after an iteration in which no other checkpoint is due, and before one."""
    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 0:
            runner.save_checkpoint(runner.work_dir, 'own.pth', by_epoch=False)
        if runner.iter == 2:
            self.collected = collect(runner)['iteration']

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            runner.save_checkpoint(runner.work_dir, 'early.pth', by_epoch=False)


def test_checkpoints_of_others(tmp_path, monkeypatch):
    save, said = Save(), []
    runner = make(tmp_path, save)
    runner.save_checkpoint(str(tmp_path), 'before.pth', save_optimizer=False,
                           save_param_scheduler=False, by_epoch=False)
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert state(tmp_path / 'own.pth')['iteration'] == 1 and save.collected == 3
    assert state(tmp_path / 'before.pth') is None  # no training had begun
    assert state(tmp_path / 'early.pth') is None  # of an iteration that has not ended
    assert sum('saved without run state' in text for text in said) == 1


def test_several_optimisers_of_mmengines_have_no_window(tmp_path):
    runner = make(tmp_path, checkpoint=dict(KINDS[0], interval=3))
    runner.train()
    runner.optim_wrapper = OptimWrapperDict(only=runner.optim_wrapper)
    RunStateHook().before_train(runner)
