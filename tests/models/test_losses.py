"""OHEMCrossEntropyLoss against a loop over sorted pixels."""
import pytest
import torch

from mmseg_esl.models import OHEMCrossEntropyLoss


def naive(logits, label, thresh, min_kept):
    pixels = []
    for n, y, x in torch.nonzero(label != 255).tolist():
        p = logits[n, :, y, x].softmax(0)[label[n, y, x]]
        pixels.append(p.item())
    pixels.sort()
    kept = [p for i, p in enumerate(pixels) if i < min_kept or p <= thresh]
    return -torch.tensor(kept).log().mean() if kept else torch.tensor(0.0)


@pytest.mark.parametrize('thresh, min_kept', [  # of 40 valid pixels
    (0.7, 1), (0.0, 7), (0.3, 20), (1.0, 5), (0.0, 40), (0.0, 999)])
def test_equals_the_loop(thresh, min_kept):
    g = torch.Generator().manual_seed(min_kept)
    logits = 3 * torch.randn(2, 4, 6, 5, generator=g)
    label = torch.randint(4, (2, 6, 5), generator=g)
    label[:, :2] = 255
    loss = OHEMCrossEntropyLoss(thresh, min_kept)(logits, label, weight=None, ignore_index=255)
    torch.testing.assert_close(loss, naive(logits, label, thresh, min_kept), rtol=1e-4, atol=1e-5)


def test_nothing_valid_is_a_connected_zero():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = OHEMCrossEntropyLoss()(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_range():
    with pytest.raises(ValueError, match='min_kept'):
        OHEMCrossEntropyLoss(min_kept=0)


def test_a_factor_goes_into_losses_alone():
    from mmseg_esl.models.supervised import scaled
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    losses = {'decode.loss_ce': [one, two], 'loss': two, 'decode.acc_seg': one}
    assert scaled(losses, 1) is losses
    assert scaled(losses, 0.5) == {'decode.loss_ce': [0.5, 1.0], 'loss': 1.0, 'decode.acc_seg': 1.0}
