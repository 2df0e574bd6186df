"""Which images share a training forward, whose batch norm then has as many to normalise by."""
from __future__ import annotations

import every
import pytest
import tiny


@pytest.mark.parametrize('kind', sorted(set(every.METHODS) - {'Supervised'}))
def test_a_method_says_whether_some_pass_alone(kind):
    """Two labelled images and three others: whether each training forward has all five or more."""
    model, passed = every.Case(kind).build(sharp=1.0), []

    def count(module, args, out):
        if out[-1].requires_grad:
            passed.append(len(args[0]))

    for net in model.named(trained=True, plain=True).values():
        net.backbone.register_forward_hook(count)
    model.loss(*tiny.batch(2, 3))
    assert passed and (min(passed) < 5) == model.apart
