"""The flaw detector's sizes, cost and layers."""
import pytest
import torch
from torch import nn

from mmseg_esl.models.flaw_detector import FlawDetector, InstanceBatchNorm

BN = dict(type='BN', requires_grad=True)


@pytest.mark.parametrize('size', [(33, 33), (20, 100), (321, 321), (513, 513), (769, 769)])
def test_a_map_of_the_images_size(size):
    detector = FlawDetector(5, channels=2, norm_cfg=BN).eval()
    out = detector(torch.randn(2, 3, *size), torch.rand(2, 5, *size),
                   torch.ones(2, *size, dtype=torch.bool))
    assert out.shape == (2, *size) and out.isfinite().all() and (out < 0).any()


def test_layers_and_cost():
    """7 convolutions of 4 x 4, 20 GMAC at 513 x 513 as the authors' has."""
    with torch.device('meta'):
        detector, total = FlawDetector(21, norm_cfg=BN), []
        convs = [m for m in detector.modules() if isinstance(m, nn.Conv2d)]
        for conv in convs:
            conv.register_forward_hook(
                lambda m, _, out: total.append(m.in_channels * 16 * out.numel()))
        detector(torch.randn(1, 3, 513, 513), torch.rand(1, 21, 513, 513),
                 torch.ones(1, 513, 513, dtype=torch.bool))
    assert [(c.out_channels, c.stride[0]) for c in convs] == [
        (64, 2), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (1, 2)]
    assert convs[0].in_channels == 24
    assert sum(total) == pytest.approx(20e9, rel=0.1)


def test_each_half_has_its_norm():
    norm, x = InstanceBatchNorm(6, BN).train(), 3 * torch.randn(4, 6, 5, 5) + 1
    out = norm(x)
    batch, each = out[:, :3], out[:, 3:]
    for c in range(3):
        assert batch[:, c].mean().abs() < 1e-5 and (batch[:, c].std() - 1).abs() < 0.02
        assert all(each[i, c].mean().abs() < 1e-5 for i in range(4))
    assert max(batch[i, 0].mean().abs() for i in range(4)) > 0.01
    assert norm.batch.weight.requires_grad and norm.instance.weight is None


def test_padding_is_not_seen():
    detector = FlawDetector(5, channels=2, norm_cfg=BN).eval()
    images, probs = torch.randn(1, 3, 70, 70), torch.rand(1, 5, 70, 70)
    inside = torch.ones(1, 70, 70, dtype=torch.bool)
    inside[..., 60:] = False
    a = detector(images, probs, inside)
    images[..., 60:], probs[..., 60:] = 9.0, 1.0
    assert torch.equal(a, detector(images, probs, inside))
    assert not torch.equal(a, detector(images, probs, torch.ones_like(inside)))
