"""Entropies, percentiles and ranks against numpy and against sorting each pixel."""
import math

import numpy as np
import pytest
import torch

from mmseg_esl.functional import class_ranks, percentile, prediction_entropy


def test_entropy_of_each_pixel():
    logits = (4 * torch.randn(2, 5, 3, 4)).double().requires_grad_()
    found = prediction_entropy(logits)
    assert not found.requires_grad
    for b in range(2):
        for y in range(3):
            for x in range(4):
                total = sum(math.exp(v) for v in logits[b, :, y, x].tolist())
                p = [math.exp(v) / total for v in logits[b, :, y, x].tolist()]
                want = -sum(q * math.log(q) for q in p)
                assert float(found[b, y, x]) == pytest.approx(want, rel=1e-12)


def test_entropy_of_the_certain_and_of_halves():
    sure = torch.tensor([200.0, -200.0, 0.0]).view(1, 3, 1, 1)
    assert prediction_entropy(sure) == 0  # no 0 * log 0
    even = torch.zeros(1, 7, 1, 1, dtype=torch.bfloat16)
    found = prediction_entropy(even)
    assert found.dtype == torch.float32 and float(found) == pytest.approx(math.log(7), rel=1e-6)


@pytest.mark.parametrize('share', [0, 0.013, 0.2, 0.5, 0.87, 1])
@pytest.mark.parametrize('total', [1, 2, 10, 1001])
def test_percentile_is_numpys(share, total):
    gen = torch.Generator().manual_seed(total)
    values = torch.randn(total, generator=gen, dtype=torch.float64)
    left_out = torch.tensor([torch.inf, torch.nan, -torch.inf] * 3, dtype=torch.float64)
    mixed = torch.cat([values, left_out])[torch.randperm(total + 9, generator=gen)]
    want = np.percentile(values.numpy(), 100 * share)
    assert float(percentile(mixed.view(1, -1), share)) == pytest.approx(want, rel=1e-12, abs=1e-12)


def test_percentile_of_a_known_row():
    row = torch.arange(1.0, 11.0)
    assert float(percentile(row, 0.9)) == pytest.approx(9.1)
    assert float(percentile(row.half(), 0.5)) == 5.5
    assert float(percentile(torch.ones(7), 0.3)) == 1  # ties are that value, exactly


def test_percentile_of_nothing():
    assert percentile(torch.full((4,), torch.inf), 0.2) == torch.inf
    with pytest.raises(ValueError, match='share.*1.2'):
        percentile(torch.ones(3), 1.2)


def test_percentile_of_more_pixels_than_float32_counts():
    values = torch.arange(2 ** 24 + 3, dtype=torch.float64)  # torch.quantile refuses them
    assert float(percentile(values, 0.75)) == 0.75 * (2 ** 24 + 2)


def test_ranks_by_full_sorting():
    logits = torch.randint(0, 4, (2, 6, 3, 4)).float()  # many ties
    found = class_ranks(logits)
    for b in range(2):
        for y in range(3):
            for x in range(4):
                column = logits[b, :, y, x].tolist()
                order = sorted(range(6), key=lambda c: (-column[c], c))
                assert found[b, :, y, x].tolist() == [order.index(c) for c in range(6)]
