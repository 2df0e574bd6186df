"""One labelled image a batch: batch norm after global pooling must not see a single value."""
import tiny
import torch


def test_warmup_with_one_labelled_image():
    model = tiny.esl('dsl+ctr', warmup_iters=5)
    inputs, samples = tiny.batch(1, 1)
    losses = model.loss(inputs, samples)
    assert torch.isfinite(model.parse_losses(losses)[0])
    assert 'loss_sce' not in losses
