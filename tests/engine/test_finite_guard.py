"""FiniteGuardHook under a real Runner: what is not finite leaves nothing behind."""
import os
import re
import signal
from types import SimpleNamespace

import forked
import guarded
import pytest
import tiny
import torch
from bench.counting import SyncCounter
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from mmseg_esl.engine import FiniteGuardHook
from mmseg_esl.engine.finite import infinite_by_design

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
    if kind in ('nan image', 'gradient'):  # the one spoils more than is shown
        assert bool(re.search(r'rank 0: .*, .*, .*, .* and \d+ more', said)) == (kind != 'gradient')
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
    said = forked.on_ranks(guarded.main, tmp_path, timeout=600)
    for rank in (0, 1):
        for kind in guarded.FAULTS:
            assert f'rank {rank}: {kind} ok' in said


class Always(guarded.Fault):
    """Every iteration from the second on is bad."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter:
            self.spoil(runner.model, data_batch)


def test_abort_names_the_image_and_the_checkpoint_before_stays_finite(tmp_path):
    with pytest.raises(RuntimeError, match=r'3 steps in a row.*rank 0: input image \S+\.png.*'
                                           'as load_from, since --resume refuses another'):
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
    with pytest.raises(RuntimeError, match='(?s)not written, since student.*not finite.*new run '
                                           'that has the last checkpoint as load_from'):
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


@pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'), reason='no scaler on CPUs before 2.3')
def test_the_scaler_skips_the_very_first_step(tmp_path):
    runner, found = guarded.guarded_run(tmp_path, guarded.Fault('gradient', at=0), 2,
                                        wrapper=dict(type='ScaledOptimWrapper', optimizer=SGD))
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 1
    assert (found[0]['ema_steps'], found[1]['ema_steps']) == (0, 1)


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


class Ask(tiny.Watch):
    """Sends SIGTERM in the iteration ``at``."""

    def __init__(self, at):
        def ask(runner):
            if runner.iter == at:
                os.kill(os.getpid(), signal.SIGTERM)

        super().__init__(ask, 'VERY_HIGH')


@pytest.fixture(scope='module')
def skipping(tmp_path_factory):
    """Trains 17 iterations, of which the 13th is bad and the last two are not logged."""
    data = tmp_path_factory.mktemp('skipping') / 'data'
    tiny.write_data(data)

    def train(work, *hooks, kind='student logits', **changes):
        fault = guarded.Fault(kind, at=12)
        fault.before_train_iter = lambda runner, *args, **kwargs: (
            runner.iter == fault.at and fault.spoil(runner.model, kwargs['data_batch']))
        changes = {'max_iters': 17, **changes}
        runner = tiny.run(
            work, data, [tiny.EMA, tiny.PARTS, dict(type='DiagnosticsHook'), guarded.GUARD, fault,
                         dict(type='RunStateHook'), *hooks], interval=10, default_hooks=dict(
                logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
                checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=5)),
            train_cfg=dict(type='SemiTrainLoop', max_iters=changes.pop('max_iters'),
                           val_interval=100),
            visualizer=dict(type='SegLocalVisualizer', name=str(work),
                            vis_backends=[dict(type='LocalVisBackend')]), **changes)
        return torch.load(work / 'work/iter_17.pth', weights_only=True), runner

    whole = tmp_path_factory.mktemp('whole')
    return train, whole, train(whole)[0]


@pytest.mark.parametrize('how', ['resumed', 'asked to stop'])
def test_a_skipped_step_ends_no_run(skipping, tmp_path, how):
    """Its loss, not logged yet, is in no checkpoint: not in a regular, a demanded, or the last."""
    train, folder, whole = skipping
    if how == 'resumed':
        train(tmp_path, resume=True, load_from=str(folder / 'work/iter_15.pth'))
    else:
        with pytest.raises(SystemExit) as end:
            train(tmp_path, Ask(at=12))
        assert end.value.code == 128 + signal.SIGTERM
        assert (tmp_path / 'work/iter_13.pth').exists()
        train(tmp_path, resume=True)
    again = torch.load(tmp_path / 'work/iter_17.pth', weights_only=True)
    for part in ('state_dict', 'optimizer', 'run_state'):
        assert guarded.differing(flat(whole[part]), flat(again[part])) == []
    hub = flat(whole['message_hub'])
    assert {'train/loss', 'train/skipped_steps'} <= set(whole['message_hub']['log_scalars'])
    assert all(value.isfinite().all() for value in hub.values())
    steps = whole['run_state']['ranks'][0]['diagnostics']['steps']
    assert len(steps) == 6  # 11, 12, 14 to 17


def flat(tree, name='') -> dict:
    if isinstance(tree, dict):
        tree = tree.items()
    elif isinstance(tree, (list, tuple)):
        tree = enumerate(tree)
    else:
        return {name: tree} if torch.is_tensor(tree) else {}
    return {k: v for key, value in tree for k, v in flat(value, f'{name}.{key}').items()}


def test_finite_figures_of_a_skipped_step_are_not_logged_either(skipping, tmp_path):
    """Its loss is finite, its gradient is not: the log's means are of the steps that were taken."""
    train, _, _ = skipping
    _, runner = train(tmp_path, kind='gradient')
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 16
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 1


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_training_begins_from(tmp_path, value):
    """A library may have read them, by a loader of its own; no image is at fault."""
    class Pretrained(Hook):
        priority = 'VERY_HIGH'

        def before_train(self, runner):
            runner.model.student.backbone.stem[0].weight.data[0] = value

    tiny.write_data(tmp_path / 'data')
    with pytest.raises(ValueError, match=r'student\.backbone\.stem\.0\.weight and 0 more tensors '
                                         r'are not finite before the first step.*load_from'):
        tiny.run(tmp_path, tmp_path / 'data', [
            dict(type='StepHook'), dict(type='FiniteGuardHook'), Pretrained()], max_iters=1,
            model=tiny.method_cfg('Supervised'))


def test_bad_argument():
    with pytest.raises(ValueError, match='max_in_a_row.*0'):
        FiniteGuardHook(max_in_a_row=0)


class Spoil(Hook):
    """Images of the iterations that ``which`` names are NaN."""

    def __init__(self, which):
        self.which = which

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.which(runner.iter):
            data_batch['inputs'] = [x * float('nan') for x in data_batch['inputs']]


def supervised(tmp_path, *hooks, **changes):
    tiny.write_data(tmp_path / 'data')
    return tiny.run(tmp_path, tmp_path / 'data', [dict(type='StepHook'), *hooks],
                    model=tiny.method_cfg('Supervised'), **changes)


@pytest.mark.parametrize('changes, most', [({}, 10), (dict(max_in_a_row=1), 1)])
def test_so_many_in_a_row_end_the_training(tmp_path, changes, most):
    hook = FiniteGuardHook(**changes)
    with pytest.raises(RuntimeError, match=f'^{most} steps in a row.* at iteration {most}\\.'):
        supervised(tmp_path, hook, Spoil(lambda number: True), max_iters=most + 2)
    assert hook.skipped == most


def test_a_parameter_that_gets_no_gradient(tmp_path):
    tiny.write_data(tmp_path / 'data')
    with tiny.quiet():
        runner = tiny.runner(tmp_path / 'work', tmp_path / 'data', [
            dict(type='StepHook'), FiniteGuardHook()], model=tiny.method_cfg('Supervised'))
        runner.model.student.spare = torch.nn.Parameter(torch.ones(2))
        runner.train()
    assert runner.iter == 2 and runner.model.student.spare.tolist() == [1, 1]
    assert not runner.model.watch.on  # a loop of somebody else's is not listened to


def test_what_a_checkpoint_within_an_accumulated_step_holds(tmp_path):
    """Its bad statistics are not judged yet: those from before the step, and the good as they are.
    """
    key = 'student.backbone.stem.1.running_mean'
    watch = tiny.Watch(lambda runner: runner.model.state_dict()[key].clone())
    runner = supervised(tmp_path, FiniteGuardHook(), Spoil(lambda number: number == 2), watch,
                        max_iters=4, save_every=1, wrapper=dict(accumulative_counts=2))
    saved = [torch.load(tmp_path / f'work/iter_{i}.pth', weights_only=False)['state_dict'][key]
             for i in (1, 2, 3, 4)]
    assert torch.equal(saved[0], watch.found[0]) and torch.equal(saved[1], watch.found[1])
    assert not torch.equal(saved[0], saved[1])
    assert torch.equal(saved[2], saved[1]) and torch.equal(saved[3], saved[1])
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 1


def test_a_checkpoint_that_is_saved_without_a_training():
    """By somebody's own script: what is in it is looked at all the same."""
    runner, weights = SimpleNamespace(iter=0), dict(a=torch.ones(2), b=torch.ones(2))
    FiniteGuardHook().before_save_checkpoint(runner, dict(state_dict=weights))
    weights['b'][1] = torch.inf
    with pytest.raises(RuntimeError, match='since b and 0 more tensors'):
        FiniteGuardHook().before_save_checkpoint(runner, dict(state_dict=weights))


def test_what_is_infinite_by_design():
    model = torch.nn.Linear(2, 2)
    for name, value in dict(mask=float('-inf'), broken=float('nan'), fine=1.0).items():
        model.register_buffer(name, torch.tensor([0.0, value]))
    model.register_buffer('both', torch.tensor([float('nan'), float('inf')]))
    model.register_buffer('count', torch.tensor(3))
    hooks = [SimpleNamespace(), SimpleNamespace(may_be_infinite=('bia', 'none'))]
    assert infinite_by_design(SimpleNamespace(model=model, hooks=hooks)) == {'mask', 'bias'}


def test_only_steps_in_a_row_are_counted(tmp_path):
    """Every other step is skipped, which two in a row would end."""
    hook = FiniteGuardHook(max_in_a_row=2)
    runner = supervised(tmp_path, hook, Spoil(lambda number: number % 2 == 0), max_iters=6)
    assert (hook.skipped, runner.iter) == (3, 6)
