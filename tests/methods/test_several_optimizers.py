"""SeveralOptimizers: a second trained network with an optimiser of its own, in one training."""
from __future__ import annotations

import copy

import every
import pytest
import tiny
import torch
from mmengine.model import BaseModule
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmseg.registry import MODELS
from torch import nn

from mmseg_esl.engine.optimizer import SeveralOptimizers
from mmseg_esl.functional import probability_mse
from mmseg_esl.semi import Role, SemiSegmentor

SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3)
ADAM = dict(type='Adam', lr=1e-3)
WRAPPER = dict(type='OptimWrapper', constructor='StudentOptimWrapperConstructor', optimizer=SGD,
               networks=dict(helper=dict(optimizer=ADAM)))


class Mirror(BaseModule):
    """Learns to repeat logits."""

    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.conv(x))


@MODELS.register_module()
class WithHelper(SemiSegmentor):
    """A toy: the helper repeats the student, and the student learns from the helper's average."""
    roles = {'student': Role(), 'helper': Role(plain=False),
             'helper_average': Role('helper', plain=False)}

    def build_own(self):
        self.helper = Mirror(self.num_classes)

    def step(self, batch):
        losses, (weak, ), _ = self.train_on(batch, batch.weak)
        with torch.no_grad():
            target = self.helper_average(weak.logits)
        losses['loss_cons'] = probability_mse(weak.logits, target, batch.valid)
        losses['loss_helper'] = probability_mse(self.helper(weak.logits.detach()), weak.logits,
                                                batch.valid)
        return losses


def build():
    return tiny.method('WithHelper', sharp=1.0)


def losses_of(model, number):
    return tiny.total(model.loss(*tiny.batch(seed=number)))


@pytest.mark.parametrize('window', [1, 2])
def test_it_steps_as_two_optimisers(window):
    """Bit for bit over three steps, of one or two iterations."""
    one = build()
    wrapper = build_optim_wrapper(one, dict(WRAPPER, accumulative_counts=window))
    assert isinstance(wrapper.optimizer, SeveralOptimizers)
    wrapper.initialize_count_status(one, 0, 3 * window)
    two = build()
    keys = {k: v for k, v in SGD.items() if k != 'type'}
    optimizers = [torch.optim.SGD(two.student.parameters(), **keys),
                  torch.optim.Adam(two.helper.parameters(), lr=1e-3)]
    start = every.part(two, 'student'), every.part(two, 'helper')
    for number in range(3 * window):
        wrapper.update_params(losses_of(one, number))
        (losses_of(two, number) / window).backward()
        if (number + 1) % window == 0:
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert every.differing(one.state_dict(), two.state_dict()) == []
    for before, name in zip(start, ('student', 'helper')):
        assert every.differing(before, every.part(one, name))
    mine = [dict(every.tensors(o.state_dict(), '')) for o in wrapper.optimizer.optimizers.values()]
    for found, optimizer in zip(mine, optimizers):
        assert every.differing(found, dict(every.tensors(optimizer.state_dict(), ''))) == []


def test_a_schedule_moves_both(tmp_path, data):
    watch = tiny.Watch(lambda r: [g['lr'] for g in r.optim_wrapper.optimizer.param_groups])
    inner = tiny.Watch(lambda r: [g['lr'] for o in r.optim_wrapper.optimizer.optimizers.values()
                                  for g in o.param_groups])
    run(tmp_path, data, watch, inner, max_iters=4,
        param_scheduler=[dict(type='PolyLR', power=1.0, begin=0, end=9, by_epoch=False)])
    assert watch.found == inner.found  # the very same groups
    rates = [list(rate) for rate in zip(*watch.found)]
    assert len(set(rates[0])) == 4
    assert [b / a for a, b in zip(*rates)] == pytest.approx([1e-3 / 0.05] * 4)


def test_state_dict_round_trip():
    one, two = build(), build()
    wrappers = [build_optim_wrapper(model, copy.deepcopy(WRAPPER)) for model in (one, two)]
    for number in range(2):
        wrappers[0].update_params(losses_of(one, number))
    two.load_state_dict(one.state_dict())
    state = copy.deepcopy(wrappers[0].state_dict())
    assert {'main', 'helper'} <= set(state)
    wrappers[1].load_state_dict(state)
    for model, wrapper in zip((one, two), wrappers):
        for group in wrapper.optimizer.param_groups:  # what schedules write to is what steps
            group['lr'] *= 0.5
        wrapper.update_params(losses_of(model, 2))
    assert every.differing(one.state_dict(), two.state_dict()) == []
    rates = [g['lr'] for o in wrappers[1].optimizer.optimizers.values() for g in o.param_groups]
    assert rates == [0.025, 0.0005]
    with pytest.raises(ValueError, match='holds optimisers of main, other.*has main, helper'):
        wrappers[1].optimizer.load_state_dict(dict(main=state['main'], other=state['helper']))


def test_whoever_asks_sees_all_state():
    model = build()
    wrapper = build_optim_wrapper(model, WRAPPER)
    wrapper.update_params(losses_of(model, 0))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in wrapper.optimizer.state} == {id(p) for p in trained}
    assert {id(p) for g in wrapper.optimizer.param_groups for p in g['params']} \
        == {id(p) for p in trained}
    assert wrapper.get_lr()['lr'] == [0.05, 1e-3]
    wrapper.zero_grad()
    assert all(p.grad is None for p in trained)


# ------------------------------------------------------------------------------ under a Runner

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    tiny.write_data(folder)
    return folder


def run(tmp_path, data, *hooks, wrapper=WRAPPER, **kwargs):
    hooks = [dict(type='StepHook'), dict(type='FiniteGuardHook'), *hooks]
    return tiny.run(tmp_path, data, hooks, wrapper=copy.deepcopy(wrapper),
                    model=tiny.method_cfg('WithHelper'), **kwargs)


@OPTIM_WRAPPERS.register_module(force=True)
class CPUScaledOptimWrapper(OptimWrapper):
    """What AmpOptimWrapper, which insists on an accelerator, does with its scaler."""
    _scale_update_param = None
    backward, step = AmpOptimWrapper.backward, AmpOptimWrapper.step

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0 ** 8)


needs_scaler = pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'),
                                  reason='no scaler on CPUs before 2.3')


@pytest.mark.parametrize('kind', ['OptimWrapper', pytest.param('CPUScaledOptimWrapper',
                                                               marks=needs_scaler)])
def test_a_skipped_step_leaves_no_trace(tmp_path, data, kind):
    watch = tiny.Watch(every.everything)
    made = run(tmp_path, data, every.Spoil(1), watch, max_iters=3,
               wrapper=dict(WRAPPER, type=kind))
    before, skipped, after = watch.found
    assert every.differing(before, skipped) == [] and made.model.ema_steps == 2
    changed = every.differing(skipped, after)
    for prefix in ('student.', 'helper.', 'helper_average.', 'optimizer.main.state',
                   'optimizer.helper.state'):
        assert any(key.startswith(prefix) for key in changed), prefix
    assert made.message_hub.get_scalar('train/skipped_steps').current() == 1


@needs_scaler
def test_a_loss_scale_changes_nothing_but_rounding(tmp_path, data):
    """A power of two: not even that."""
    states = [every.everything(run(tmp_path / kind, data, max_iters=3, wrapper=dict(
        WRAPPER, type=kind))) for kind in ('OptimWrapper', 'CPUScaledOptimWrapper')]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-4, atol=1e-6, msg=key)


def test_averages_move_once_a_window(tmp_path, data):
    watch = tiny.Watch(lambda r: (int(r.model.ema_steps), every.part(r.model, 'helper_average')))
    run(tmp_path, data, watch, max_iters=4, wrapper=dict(WRAPPER, accumulative_counts=2))
    steps, averages = zip(*watch.found)
    assert steps == (0, 1, 1, 2)
    assert every.differing(averages[1], averages[2]) == []
    assert every.differing(averages[2], averages[3])


def test_a_resumed_run_is_the_whole_one(tmp_path, data):
    kwargs = dict(save_every=2, max_iters=4, train_cfg=dict(type='SemiTrainLoop', max_iters=4),
                  param_scheduler=[dict(type='PolyLR', begin=0, end=4, by_epoch=False)])
    run(tmp_path / 'whole', data, dict(type='RunStateHook'), **kwargs)
    torch.manual_seed(99)
    run(tmp_path / 'resumed', data, dict(type='RunStateHook'), resume=True,
        load_from=str(tmp_path / 'whole/work/iter_2.pth'), **kwargs)
    a, b = (torch.load(tmp_path / f'{name}/work/iter_4.pth', weights_only=False)
            for name in ('whole', 'resumed'))
    for key in ('state_dict', 'optimizer'):
        one, two = (dict(every.tensors(x[key], '')) for x in (a, b))
        assert len(one) > 20 and every.differing(one, two) == []
    assert [g['lr'] for x in (a, b) for g in x['optimizer']['helper']['param_groups']][0] < 1e-3


# -------------------------------------------------------------------------------- what is refused

@pytest.mark.parametrize('networks, message', [
    (dict(nobody=dict(optimizer=ADAM)), 'nobody is no trained network.*student, helper'),
    (dict(helper_average=dict(optimizer=ADAM)), 'helper_average is no trained network'),
    (dict(student=dict(optimizer=ADAM), helper=dict(optimizer=ADAM)), 'leave one whole segmentor')])
def test_bad_networks(networks, message):
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(build(), dict(WRAPPER, networks=networks))


def test_a_rate_of_its_own_for_a_whole_segmentor():
    model = tiny.method('CPS')
    wrapper = build_optim_wrapper(model, dict(WRAPPER, networks=dict(student2=dict(
        optimizer=ADAM, paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10)))))))
    rates = {id(p): g['lr'] for g in wrapper.optimizer.param_groups for p in g['params']}
    assert rates == {
        **{id(p): 0.05 for p in model.student.parameters()},
        **{id(p): 1e-2 if 'decode_head' in name else 1e-3
           for name, p in model.student2.named_parameters()}}
