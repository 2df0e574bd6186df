"""Ramps against figures worked out by hand."""
import math

import pytest

from mmseg_esl.functional import ramp
from mmseg_esl.functional.ramps import RAMPS


@pytest.mark.parametrize('shape, start, quarter, end', [
    ('linear', 0, 0.25, 1), ('cosine', 0, 0.1464466, 1),
    ('sigmoid', 0.0067379, math.exp(-2.8125), 1), ('log', 0, 0.7134952, 0.9932621)])
def test_values(shape, start, quarter, end):
    for done, want in ((0, start), (-1, start), (0.25, quarter), (1, end), (7, end)):
        assert ramp(done, shape) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize('shape', RAMPS)
def test_it_rises(shape):
    values = [ramp(i / 50, shape) for i in range(51)]
    assert all(a < b for a, b in zip(values, values[1:]))
    assert 0 <= values[0] and values[-1] <= 1
