"""Under mixed precision the method's own terms stay in float32 and finite."""
import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.mark.parametrize('variant', ['dsl+ctr', 'hard+ctr', 'topk', 'sup'])
def test_bfloat16_step(variant):
    model = tiny.esl(variant)
    inputs, samples = tiny.batch()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(inputs, samples)
    total = tiny.total(losses)
    total.backward()
    assert torch.isfinite(total)
    for key in ('loss_sce', 'loss_ctr'):
        if variant != 'sup' and key in losses:
            assert losses[key].dtype == torch.float32
    for module in model.named(trained=True).values():
        for p in module.parameters():
            assert p.grad is None or torch.isfinite(p.grad).all()
    if model.part_memory is not None:
        assert model.part_memory.queue.dtype == torch.float32
        assert torch.isfinite(model.part_memory.queue).all()


class Casts(TorchDispatchMode):
    """Counts copies of parameters in another precision."""

    def __init__(self, net):
        super().__init__()
        self.ids, self.count = {id(p) for p in net.parameters()}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default and id(args[0]) in self.ids
        return func(*args, **(kwargs or {}))


def test_weights_cast_without_gradient_are_cast_again():
    """autocast keeps what it has cast; of a pass without gradient that is of no use to training."""
    model = tiny.method('FixMatch')
    images, _ = tiny.batch()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        with Casts(model.student) as before:
            model.see('student', images, mode='eval')
        with Casts(model.student) as after:
            logits = model.see('student', images, grad=True).logits
    assert after.count == before.count > 10
    logits.float().sum().backward()
    convs = [m for m in model.student.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(conv.weight.grad is not None for conv in convs)
