"""A resumed run is the uninterrupted one, bit for bit."""
import json

import pytest
import resume_leg as leg
import torch
from mmengine.config import Config
from project import write_project

LAST, STOPS = 14, (2, 4, 6)
OPTIONS = {
    'train_cfg.type': 'SemiTrainLoop', 'train_cfg.max_iters': LAST, 'train_cfg.val_interval': 4,
    'default_hooks.checkpoint.interval': 2, 'param_scheduler.0.end': LAST,
    'default_hooks.parts.begin': 3}


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp('exact')
    return folder, Config.fromfile(str(write_project(folder)))


@pytest.fixture(scope='module')
def whole(project):
    """The uninterrupted run, without a seed of its own."""
    folder, cfg = project
    leg.train(leg.config(cfg, folder / 'whole', OPTIONS))
    return folder / 'whole'


def resume(project, whole, stop, name, options=(), **kwargs):
    folder, cfg = project
    work = folder / name
    leg.train(leg.config(cfg, work, {**OPTIONS, **dict(options)},
                         resume_from=whole / f'iter_{stop}.pth', **kwargs))
    return work


@pytest.mark.parametrize('stop, workers', zip(STOPS, (0, 0, 2)))
def test_identical(project, whole, stop, workers):
    """Before the parts are found, before a validation that is due, and between two log lines; the
    drawn seed is taken over, and the number of workers makes no difference."""
    work = resume(project, whole, stop, f'from{stop}', workers=workers)
    assert LAST - stop >= 8
    assert leg.compare_traces(leg.trace(whole), leg.trace(work), stop) == []
    final = f'iter_{LAST}.pth'
    assert leg.compare_checkpoints(whole / final, work / final) == []
    # of the 2 + 2 images a step, none before the stop was read again, and all after it were
    read, needed = leg.draws(work), {(s, p) for s in (0, 1) for p in range(2 * stop, 2 * LAST)}
    assert [draw for draw in read if draw[1] < 2 * stop] == []
    assert needed <= set(read) and (workers or sorted(needed) == sorted(read))


def test_the_trace_notices(whole):
    """One different draw of a random number would be seen."""
    trace = leg.trace(whole)
    assert len({step['torch'] for step in trace.values()}) == LAST
    for key in ('student', 'teacher', 'optimizer', 'grad_norm', 'decode.loss_ce'):
        assert len({step[key] for step in trace.values()}) == LAST
    assert trace[LAST]['loss_ctr'] > 0 and trace[1]['part_memory'] != trace[LAST]['part_memory']


def test_mmengines_own_loop(project, whole):
    """It reads everything again, and is right all the same: also with the seed that was drawn."""
    work = resume(project, whole, 4, 'plain', {'train_cfg.type': 'IterBasedTrainLoop'})
    assert leg.compare_traces(leg.trace(whole), leg.trace(work), 4) == []
    assert len(leg.draws(work)) == 4 * LAST  # and not 4 * (LAST - 4)


def test_fast_forward(project, whole):
    folder, cfg = project
    checkpoint = torch.load(whole / 'iter_4.pth', weights_only=False)
    checkpoint['meta']['iter'] = checkpoint['run_state']['iteration'] = 40_000
    checkpoint['run_state']['streams'].update(iteration=40_000, labeled=80_000, unlabeled=80_000)
    torch.save(checkpoint, folder / 'iter_40000.pth')
    options = {'train_cfg.max_iters': 40_001, 'train_cfg.val_interval': 10 ** 6}
    leg.train(leg.config(cfg, folder / 'far', {**OPTIONS, **options},
                         resume_from=folder / 'iter_40000.pth'))
    waited = json.loads((folder / 'far/trace_rank0.json').read_text())['waited']
    print(f'from the loop\'s start to iteration 40,000 with its batch: {waited:.3f} s')
    assert waited < 1
    assert sorted(leg.draws(folder / 'far')) == [(s, p) for s in (0, 1) for p in (80_000, 80_001)]


def test_the_saved_state_is_plain(whole):
    """Loadable by anybody's torch.load(weights_only=True)."""
    state = torch.load(whole / 'iter_4.pth', weights_only=False)['run_state']
    torch.save(state, whole / 'state.pt')
    state = torch.load(whole / 'state.pt', weights_only=True)
    assert state['streams'] == dict(seed=state['seed'], iteration=4, labeled=8, unlabeled=8)
    assert len(state['ranks']) == 1 and state['ranks'][0]['rng'].keys() >= {'python', 'torch'}
