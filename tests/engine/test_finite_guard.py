"""FiniteGuardHook under a real Runner: what is not finite leaves nothing behind."""
import subprocess
import sys
from pathlib import Path

import guarded
import pytest
import tiny
import torch
from bench.counting import SyncCounter
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from mmseg_esl.engine import FiniteGuardHook

SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.1)
ADAM = dict(type='AdamW', lr=1e-3, weight_decay=0.1)


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """Undisturbed runs by optimiser wrapper: folder, states, batches."""
    made = {}

    def get(**wrapper):
        key = repr(wrapper)
        if key not in made:
            folder, record = tmp_path_factory.mktemp('guarded'), guarded.Fault()
            each = wrapper.get('accumulative_counts', 1)
            _, states = guarded.guarded_run(folder, record, 3 * each, wrapper=dict(wrapper))
            made[key] = folder, states, record.batches
        return made[key]

    return get


@pytest.mark.parametrize('kind', list(guarded.FAULTS))
def test_a_bad_step_leaves_no_trace(good, kind):
    wrapper = dict(optimizer=SGD)
    folder, states, batches = good(**wrapper)
    said = guarded.check(folder, kind, states, batches, wrapper=wrapper)
    assert f'rank 0: {guarded.FAULTS[kind]}' in said
    if 'image' in guarded.FAULTS[kind]:
        assert 'img/b' in said or 'img/a' in said  # the path


@pytest.mark.parametrize('wrapper', [
    dict(optimizer=dict(ADAM, foreach=True)), dict(optimizer=dict(ADAM, foreach=False)),
    dict(optimizer=dict(SGD, foreach=False)),
    dict(optimizer=SGD, clip_grad=dict(max_norm=1.0)),
    dict(optimizer=SGD, accumulative_counts=2)], ids=str)
def test_every_optimiser_stands_still(good, wrapper):
    folder, states, batches = good(**wrapper)
    guarded.check(folder, 'nan image', states, batches, wrapper=wrapper)


def test_two_ranks_skip_together(tmp_path):
    """One of them is bad; every fault."""
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
         str(Path(guarded.__file__)), str(tmp_path)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:]
    for rank in (0, 1):
        for kind in guarded.FAULTS:
            assert f'rank {rank}: {kind} ok' in done.stdout


class Always(guarded.Fault):
    """Every iteration from the second on is bad."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter:
            self.spoil(runner.model, data_batch)


def test_abort_names_the_image_and_the_checkpoint_before_stays_finite(tmp_path):
    with pytest.raises(RuntimeError, match=r'3 steps in a row.*rank 0: input image \S+\.png'):
        guarded.guarded_run(tmp_path, Always('nan image'), 9, save_every=1,
                            guard=dict(type='FiniteGuardHook', max_in_a_row=3))
    work = tmp_path / 'nan image-9/work'
    assert not (work / 'iter_4.pth').exists()  # the third bad step ends the run
    first, last = (torch.load(work / f'iter_{i}.pth', weights_only=False) for i in (1, 3))
    for key, value in last['state_dict'].items():
        assert torch.equal(value, first['state_dict'][key]), key
        assert value.isfinite().all(), key


def test_parameters_that_overflow_are_not_saved(tmp_path):
    """Gradients are finite, but the learning rate is beyond all measure."""
    with pytest.raises(RuntimeError, match='not written, since student.*not finite'):
        guarded.guarded_run(tmp_path, guarded.Fault(), 1, save_every=1,
                            wrapper=dict(optimizer=dict(type='SGD', lr=1e38, weight_decay=1e9)))
    assert not list((tmp_path / '-1/work').glob('*.pth'))


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledOptimWrapper(OptimWrapper):
    """What AmpOptimWrapper, which insists on an accelerator, does with its scaler."""
    _scale_update_param = None
    backward, step = AmpOptimWrapper.backward, AmpOptimWrapper.step

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu')


@pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'), reason='no scaler on CPUs before 2.3')
@pytest.mark.parametrize('kind', ['nan image', 'gradient', 'statistic'])
def test_beside_a_gradient_scaler(good, kind):
    """It skips the first two by itself, and does not see the third."""
    wrapper = dict(type='ScaledOptimWrapper', optimizer=SGD)
    folder, states, batches = good(**wrapper)
    said = guarded.check(folder, kind, states, batches, wrapper=wrapper)
    assert ('loss scale' if kind == 'gradient' else guarded.FAULTS[kind]) in said


class Counted(FiniteGuardHook):

    def _judge(self, *args):
        with SyncCounter() as counter:
            super()._judge(*args)
        assert counter.waits == dict(_local_scalar_dense=1)


def test_the_verdict_waits_once(tmp_path):
    guarded.guarded_run(tmp_path, guarded.Fault(), 2, guard=Counted())


def test_the_count_goes_on_after_a_resume(tmp_path):
    fault = guarded.Fault('nan image', at=1)
    guarded.guarded_run(tmp_path, fault, 3, save_every=3)
    checkpoint = str(tmp_path / 'nan image-3/work/iter_3.pth')
    fault = guarded.Fault('nan image', at=4)
    runner, _ = guarded.guarded_run(tmp_path, fault, 5, load_from=checkpoint, resume=True)
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 2


def test_bad_argument():
    with pytest.raises(ValueError, match='max_in_a_row.*0'):
        FiniteGuardHook(max_in_a_row=0)


def test_only_steps_in_a_row_are_counted(tmp_path):
    """Every other step is skipped, which two in a row would end."""
    class EveryOther(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter % 2 == 0:
                data_batch['inputs'] = [x * float('nan') for x in data_batch['inputs']]

    tiny.write_data(tmp_path / 'data')
    hook = FiniteGuardHook(max_in_a_row=2)
    runner = tiny.run(tmp_path, tmp_path / 'data', [dict(type='StepHook'), hook, EveryOther()],
                      model=tiny.method_cfg('Supervised'), max_iters=6)
    assert (hook.skipped, runner.iter) == (3, 6)
