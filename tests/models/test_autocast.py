"""Under mixed precision the method's own terms stay in float32 and finite."""
import pytest
import tiny
import torch


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
