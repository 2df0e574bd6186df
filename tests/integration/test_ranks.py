"""Two processes over gloo: the drill tools/drills/ranks.py with small counts.

``make drill-ranks`` runs it on two and four, for fifty steps.
"""
import runpy
from pathlib import Path

import pytest

DRILL = runpy.run_path(str(Path(__file__).parents[2] / 'tools/drills/ranks.py'))
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


@pytest.mark.parametrize('key, value', [('sampling', 'pixel'), ('sampling', None)])
def test_bad_keys(key, value):
    import tiny
    with pytest.raises(ValueError, match='sampling'):
        tiny.esl('dsl', **{key: value})


def test_draws_keyed_by_image_want_shared_negatives():
    import tiny
    with pytest.raises(ValueError, match="sampling='image'.*negatives"):
        tiny.esl(sampling='image', negatives='independent')
