"""Two processes over gloo: queues are the same however rows travel; and the bytes that travel."""
import runpy
import sys
from pathlib import Path

import pytest

DRILL = runpy.run_path(str(Path(__file__).parents[2] / 'dev/drills/ranks.py'))


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    return DRILL['launch']('rows', 2, tmp_path_factory.mktemp('rows'), 0, 300)


@pytest.mark.parametrize('case', ['different', 'none on rank 1', 'none on rank 0', 'none',
                                  'more than fit'])
def test_queues_are_those_of_one_process_bit_for_bit(found, case):
    assert found[f'{case} whole'] and found[f'{case} packed']
    parts, pixels = found[f'{case} pushed']
    assert (parts > 0) == (pixels > 0) == (case != 'none')


def test_only_what_is_there_is_sent(found):
    jobs = sys.modules['rank_jobs']
    whole, packed = ([found[f'{case} {way} bytes'] for case in jobs.SHARES]
                     for way in ('whole', 'packed'))
    marks, reduced = 3 * 6 + 3 * 20, 6 * (5 + 1) * 4  # one byte a place; the prototypes' sums
    # three steps, each staged twice: one is taken back
    assert whole == [6 * (marks + reduced + 3 * 6 * 6 * 4 + 3 * 20 * (4 * 4 + 3))] * len(whole)
    for (case, shares), given in zip(jobs.SHARES.items(), packed):
        want = 0
        for step in zip(*(jobs._steps(rank, share) for rank, share in enumerate(shares))):
            parts = max(int((p[1].gt(0) & ~p[0].isnan().any(-1)).sum()) for p, _ in step)
            pixels = max(int(q[1].any(dim=1).sum()) for _, q in step)
            want += 2 * (marks + reduced + parts * 6 * 4 + pixels * (4 * 4 + 3))
        assert given == want, case
