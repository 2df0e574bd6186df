"""What every method has to keep under a real Runner: skipped steps, windows, resuming, ranks."""
from __future__ import annotations

import every
import every_ranks
import forked
import pytest
import tiny
import torch

each = pytest.mark.parametrize('case', every.CASES, ids=repr)
ADAM = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    tiny.write_data(folder)
    return folder


def run(tmp_path, data, case, *hooks, **kwargs):
    return tiny.run(tmp_path, data, case.hooks(*hooks), **{'model': case.model_cfg(), **kwargs})


@each
def test_a_skipped_step_leaves_no_trace(tmp_path, data, case):
    watch = tiny.Watch(every.everything)
    runner = run(tmp_path, data, case, every.Spoil(1), watch, max_iters=3, wrapper=ADAM)
    before, skipped, after = watch.found
    assert every.differing(before, skipped) == []
    assert any(key.startswith('optimizer') for key in before)
    changed = every.differing(skipped, after)
    for name in runner.model.roles.keys() - every.resting(runner.model):
        assert any(key.startswith(f'{name}.') for key in changed), name
    assert all(value.isfinite().all() for value in after.values())
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 1
    assert runner.model.ema_steps == 2


@each
def test_averages_move_once_a_window(tmp_path, data, case):
    watch = tiny.Watch(lambda r: (int(r.model.ema_steps), {
        f'{name}.{k}': v.detach().clone() for name in r.model.roles
        for k, v in getattr(r.model, name).named_parameters()}))
    runner = run(tmp_path, data, case, watch, max_iters=4,
                 wrapper=dict(optimizer=dict(type='SGD', lr=0.05), accumulative_counts=2))
    steps, states = zip(*watch.found)
    assert steps == (0, 1, 1, 2)
    assert every.differing(states[1], states[2]) == []
    assert all(value.isfinite().all() for value in states[3].values())
    moved = every.differing(states[2], states[3])
    assert {key.split('.')[0] for key in moved} >= \
        set(runner.model.named(plain=True)) - every.resting(runner.model)


@each
def test_a_resumed_run_is_the_whole_one(tmp_path, data, case):
    kwargs = dict(
        save_every=2, max_iters=4, wrapper=ADAM,
        train_cfg=dict(type='SemiTrainLoop', max_iters=4),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
            checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=2,
                            save_last=False)))
    state = dict(type='RunStateHook')
    run(tmp_path / 'whole', data, case, state, **kwargs)
    torch.manual_seed(99)  # a new process would be anywhere
    run(tmp_path / 'resumed', data, case, state, resume=True,
        load_from=str(tmp_path / 'whole/work/iter_2.pth'), **kwargs)
    a, b = (torch.load(tmp_path / f'{name}/work/iter_4.pth', weights_only=False)
            for name in ('whole', 'resumed'))
    middle = torch.load(tmp_path / 'whole/work/iter_2.pth', weights_only=False)
    for key in ('state_dict', 'optimizer'):
        one, two, old = (dict(every.tensors(x[key], '')) for x in (a, b, middle))
        assert every.differing(one, two) == [] and every.differing(one, old)
    assert a['meta']['networks']['roles'].keys() == case.roles.keys()
    assert not (tmp_path / 'resumed/work/iter_2.pth').exists()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """One start of two processes for all methods."""
    folder = tmp_path_factory.mktemp('ranks')
    return forked.result(forked.on_ranks(every_ranks.main, folder, timeout=600))


@each
def test_two_ranks_hold_the_same_bits(ranks, case):
    found = ranks[repr(case)]
    assert found['steps'] == 2 and found['tensors'] > 90 and not found['skipped']
    assert found['saw_other_images']
    assert found['differing'] == []
