"""Two processes over gloo: the drill dev/drills/ranks.py with small counts.

``make drill-ranks`` runs it on two and four, for fifty steps.
"""
import runpy
from pathlib import Path

import pytest
import tiny
import torch

from mmseg_esl.engine.hooks.part_init_hook import PartInitHook

DRILL = runpy.run_path(str(Path(__file__).parents[2] / 'dev/drills/ranks.py'))
TIMEOUT = 600  # only a hang takes so long


def test_ranks_hold_the_same_bits_after_every_step():
    found = DRILL['agree'](2, 4, TIMEOUT)
    assert found['steps'] == found['teachers'] == 4  # and the teacher has moved in each
    assert found['pushed'] > 0 and found['tensors'] > 200
    assert found['differing'] == 0, found['first']


def test_two_ranks_make_the_step_of_one_process():
    found = DRILL['one_step'](2, 32, TIMEOUT)
    for name in DRILL['LIMITS']:
        assert found[name]['loss_ctr'] > 0
        assert DRILL['exact'](name, found[name]), found[name]
    assert found['own means']['gradient'] > 1e-3  # the comparison can tell


def test_a_rank_with_nothing_does_not_hang_the_others():
    found = DRILL['empty'](2, TIMEOUT)
    assert len(found) == 4
    assert all(found.values()), found


def test_ranks_find_the_parts_of_one_process(tmp_path):
    """Four images and three classes, which two ranks cannot share evenly."""
    found = torch.tensor(DRILL['launch']('parts', 2, tmp_path, 4, TIMEOUT)['prototypes'])
    tiny.write_data(tmp_path / 'data', labeled=4)
    runner = tiny.runner(tmp_path / 'one', tmp_path / 'data', [])
    with tiny.quiet():
        runner.model.init_weights()
    want, _, _ = PartInitHook()._prototypes(runner, runner.model.part_memory)
    for a, b in zip(found, torch.from_numpy(want)):  # both have clustered all pixels
        nearest = torch.cdist(a, b).argmin(dim=1)
        assert sorted(nearest.tolist()) == [0, 1]
        assert (a - b[nearest]).norm() < 1e-3 * b.norm()


@pytest.mark.parametrize('key, value', [('sampling', 'pixel'), ('sampling', None)])
def test_bad_keys(key, value):
    with pytest.raises(ValueError, match='sampling'):
        tiny.esl('dsl', **{key: value})


def test_draws_keyed_by_image_want_shared_negatives():
    with pytest.raises(ValueError, match="sampling='image'.*negatives"):
        tiny.esl(sampling='image', negatives='independent')
