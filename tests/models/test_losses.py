"""OHEMCrossEntropyLoss against a loop over sorted pixels."""
import pytest
import torch
from mmseg.models.losses import CrossEntropyLoss

from mmseg_esl.models import OHEMCrossEntropyLoss
from mmseg_esl.models.supervised import pixel_means


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


@pytest.mark.parametrize('given', [dict(weight=None), dict(weight='some'),
                                   dict(weight=None, reduction_override='sum')])
def test_class_weights_are_mmsegs(given):
    """Brought to the device without a wait: as weights of the pixels."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=g).requires_grad_()
    label = torch.randint(3, (2, 4, 5), generator=g)
    if given['weight']:
        given = dict(given, weight=torch.rand(2, 4, 5, generator=g))
    loss = CrossEntropyLoss(avg_non_ignore=True, class_weight=[1.0, 2.0, 0.5], loss_weight=3.0)
    net = torch.nn.Sequential(loss)
    wanted = loss(logits, label, ignore_index=255, **given)
    with pixel_means(net, None):
        found = loss(logits, label, ignore_index=255, **given)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (found, wanted)))
    assert loss.class_weight == [1.0, 2.0, 0.5]


def test_class_weights_beside_ignored_pixels():
    """mmseg's own fails there."""
    label = torch.tensor([[[0, 1, 255, 2]]])
    logits = torch.randn(1, 3, 1, 4)
    loss = CrossEntropyLoss(avg_non_ignore=True, class_weight=[1.0, 2.0, 0.5])
    with pixel_means(torch.nn.Sequential(loss), None):
        found = loss(logits, label, ignore_index=255)
    nll = -logits.log_softmax(dim=1)[0, :, 0]
    wanted = (1.0 * nll[0, 0] + 2.0 * nll[1, 1] + 0.5 * nll[2, 3]) / 3.5
    torch.testing.assert_close(found, wanted)
