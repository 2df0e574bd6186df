"""A loss whose gradient is taken at once equals one that autograd goes back through."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmseg_esl.functional import loss_at_once, probability_mse


def example():
    gen = torch.Generator().manual_seed(0)
    small = torch.randn(2, 4, 3, 5, generator=gen, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(2, 4, 9, 14, generator=gen, dtype=torch.float64).softmax(dim=1)
    valid = torch.rand(2, 9, 14, generator=gen) < 0.7

    def difference(x):
        return probability_mse(F.interpolate(x, size=(9, 14), mode='bilinear'), wanted, valid,
                               softened=True)
    return small, wanted, difference


def test_value_and_gradient():
    small, _, difference = example()
    plain = 3 * difference(small) ** 2
    want, = torch.autograd.grad(plain, small)
    at_once = 3 * loss_at_once(difference, small) ** 2
    got, = torch.autograd.grad(at_once, small)
    torch.testing.assert_close(at_once, plain, rtol=1e-14, atol=0)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-18)


def test_softened_target():
    """Probabilities given as such are those of the logits they come from."""
    small, wanted, _ = example()
    logits = F.interpolate(small, size=(9, 14))
    valid = torch.ones(2, 9, 14, dtype=torch.bool)
    torch.testing.assert_close(probability_mse(logits, wanted, valid, softened=True),
                               probability_mse(logits, wanted.log(), valid), rtol=1e-12, atol=0)


def test_without_a_gradient():
    small, _, difference = example()
    for x in (small.detach(), small):
        with torch.no_grad():
            assert not loss_at_once(difference, x).requires_grad
    assert float(loss_at_once(difference, small.detach())) == pytest.approx(
        float(difference(small).detach()), rel=1e-12)


def test_nothing_else_is_held():
    small, _, difference = example()
    step = loss_at_once(difference, small).grad_fn
    assert [x.shape for x in step.saved_tensors] == [small.shape]
    assert [before.variable is small for before, _ in step.next_functions if before] == [True]
