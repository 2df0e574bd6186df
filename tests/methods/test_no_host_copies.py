"""No step makes a tensor on the host and waits until the device has it.

torch.tensor(x, device=...), x.new_tensor(...) and x.to(device) copy from memory that is not pinned
and wait, which CUDA's check calls a synchronising operation; the operators that are dispatched on a
CPU do not show it, so the calls are looked at.
"""
from __future__ import annotations

from collections import Counter

import every
import pytest
import tiny
import torch
from bench.counting import FromHost
from torch import Tensor
from two_devices import TwoDevices


class HostCopies(FromHost):
    """Counts calls that would wait for such a copy, were the device a GPU; ``to`` as well."""

    def __init__(self):
        super().__init__(Counter())

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.waits['to'] += func is Tensor.to and not kwargs.get('non_blocking') and (
            'device' in kwargs or any(isinstance(x, (str, torch.device)) for x in args[1:]))
        return super().__torch_function__(func, types, args, kwargs)


@pytest.mark.parametrize('case', every.CASES, ids=repr)
def test_a_step_copies_nothing_from_the_host(case):
    model = case.build(sharp=1.0)
    inputs, samples = tiny.batch()
    with HostCopies() as copies, TwoDevices() as mixed:
        total, _ = model.parse_losses(model.loss(inputs, samples))
        model.after_optimizer_step(3)
    assert total.isfinite()
    assert not +copies.waits
    assert mixed.found == []  # nor does it forget to say where a tensor is made


def test_it_notices():
    x = torch.ones(2)
    with HostCopies() as copies:
        x.new_tensor(3.0), torch.tensor(1.0, device='cpu'), x.to('cpu'), x.to(device='cpu')
        torch.tensor(1.0), x.to(torch.float64), x.to('cpu', non_blocking=True)
        x[1], x[0:], x[torch.tensor(0)] = 5.0, 6.0, torch.tensor(7.0)
    assert copies.waits == {'a list brought to the device': 2, 'to': 2,
                            'a number written to one element': 1}


def test_it_notices_what_was_made_elsewhere():
    x = torch.ones(2, 2)
    with TwoDevices() as mixed:
        torch.arange(2, device='cpu') + x, torch.arange(2).to('cpu') + x, torch.rand(()) < x
        x + torch.zeros_like(x), torch.rand(2) + torch.arange(2), x.to(torch.float64) + x
        assert mixed.found == []
        torch.arange(2) + x, torch.where(x > 0, torch.zeros(2, 2), x), x[torch.arange(2)]
        torch.stack([x, (2 * torch.rand(2, 2)).to(torch.float32)])
    assert mixed.found == ['add', 'where', '__getitem__', 'stack']
