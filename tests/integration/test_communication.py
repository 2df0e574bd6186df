"""One step on two ranks: which collectives, and how many bytes, by hand from the sizes."""
import sys
from pathlib import Path

import pytest

IMAGES = 4  # of a rank


@pytest.fixture(scope='module')
def found():
    drills = str(Path(__file__).parents[2] / 'dev/drills')
    sys.path.insert(0, drills)
    try:
        import communication
        yield communication.measure(2, 0, 600)
    finally:
        sys.path.remove(drills)


def test_parts_take_few_collectives(found):
    calls, given, _ = found['purposes']['parts']
    assert 1 <= calls <= 5
    classes, parts, width, embed = found['memory']
    means = IMAGES * classes * parts * embed  # gathered: part features
    sums = classes * parts * (width + 1)  # reduced: the prototypes' new means
    # and which there are, a byte each; the anchors of each class, in float64
    assert given == 4 * (means + sums) + IMAGES * classes * parts + 8 * classes


def test_everything_that_is_sent_has_a_purpose(found):
    purposes = found['purposes']
    assert set(purposes) == {'parts', 'gradients', 'loss normalisers', 'batch-norm buffers',
                             'finite flag', 'interrupt flag'}
    assert purposes['gradients'][1] == 4 * found['parameters']
    assert purposes['batch-norm buffers'][1] == 4 * found['buffers']
    assert purposes['batch-norm buffers'][0] == 2  # student and projector, not each buffer
    assert purposes['loss normalisers'][:2] == [2, 16]
    assert purposes['finite flag'][:2] == [1, 4]
    assert purposes['interrupt flag'][:2] == [1, 8]
