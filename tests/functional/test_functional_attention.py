"""Class maps, attention and fusion against loops over the pixels, and by hand."""
from __future__ import annotations

import math

import pytest
import torch

from mmseg_esl.functional import (
    calibrated_fusion,
    class_activation,
    masked_attention,
    masked_mean,
    present_classes,
)

N, C, D, H, W = 2, 3, 5, 3, 4


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def valid(gen):
    out = torch.rand(N, H, W, generator=gen) < 0.7
    assert all(0 < one.sum() < one.numel() for one in out)
    return out


def randn(*shape, gen):
    return torch.randn(*shape, dtype=torch.float64, generator=gen)


def softmax(values):
    powers = [math.exp(v - max(values)) for v in values]
    return [p / sum(powers) for p in powers]


def close(got, want):
    torch.testing.assert_close(got, torch.as_tensor(want, dtype=got.dtype), rtol=0, atol=1e-12)


def test_classes_of_an_image(gen, valid):
    labels = torch.randint(7, (N, H, W), generator=gen)
    want = [[any(labels[n, y, x] == c and valid[n, y, x] for y in range(H) for x in range(W))
             for c in range(7)] for n in range(N)]
    assert present_classes(torch.where(valid, labels, 255), 7, valid).tolist() == want
    assert not present_classes(labels, 7, torch.zeros_like(valid)).any()


def test_mean_of_the_valid_pixels(gen, valid):
    feats = randn(N, D, H, W, gen=gen)
    close(masked_mean(feats, valid), torch.stack([f[:, v].mean(dim=1)
                                                  for f, v in zip(feats, valid)]))
    assert not masked_mean(feats, torch.zeros_like(valid)).any()
    alone = torch.zeros_like(valid)
    alone[:, 2, 1] = True  # a class of one pixel: its mean is that pixel
    close(masked_mean(feats, alone), feats[:, :, 2, 1])


def test_class_maps_are_grad_cam(gen):
    """relu of the features weighted by the pooled gradient of a class's logit, by autograd."""
    feats, weight = randn(N, D, H, W, gen=gen).requires_grad_(), randn(C, D, gen=gen)
    classes = torch.tensor([[True, False, True], [True, True, True]])
    got = class_activation(feats, weight, classes, torch.ones(N, H, W, dtype=torch.bool))
    assert not got.requires_grad
    logits = feats.mean(dim=(2, 3)) @ weight.T
    for n in range(N):
        for c in range(C):
            slope, = torch.autograd.grad(logits[n, c], feats, retain_graph=True)
            cam = (slope[n].mean(dim=(1, 2))[:, None, None] * feats[n]).sum(dim=0).relu().detach()
            close(got[n, c], cam / cam.max() if classes[n, c] else torch.zeros(H, W))


def test_class_maps_leave_out_padding(gen, valid):
    feats, weight = randn(N, D, H, W, gen=gen), randn(C, D, gen=gen)
    every = torch.ones(N, C, dtype=torch.bool)
    got = class_activation(feats, weight, every, valid)
    other = class_activation(torch.where(valid[:, None], feats, 9.0), weight, every, valid)
    assert torch.equal(got, other) and not got.transpose(0, 1)[:, ~valid].any()
    nothing = class_activation(-feats.abs(), weight.abs(), every, valid)
    assert not nothing.any()  # and not NaN


def test_attention_of_every_pair(gen, valid):
    query, key, value = (randn(N, n, H, W, gen=gen) for n in (D, D, C))
    got = masked_attention(query, key, value, valid)
    spots = [(y, x) for y in range(H) for x in range(W)]
    for n in range(N):
        for y, x in spots:
            scores = [float(query[n, :, y, x] @ key[n, :, j, i]) / D ** 0.5
                      if valid[n, y, x] and valid[n, j, i] else -1e9 for j, i in spots]
            want = sum(a * value[n, :, j, i] for a, (j, i) in zip(softmax(scores), spots))
            close(got[n, :, y, x], want)


def test_attention_at_its_extremes(gen):
    """Pixels that see themselves alone; pixels that see all alike."""
    value, every = randn(1, C, H, W, gen=gen), torch.ones(1, H, W, dtype=torch.bool)
    own = 100 * torch.eye(H * W, dtype=torch.float64).view(1, H * W, H, W)
    close(masked_attention(own, own, value, every), value)
    flat = torch.zeros_like(own)
    close(masked_attention(flat, own, value, every),
          value.mean(dim=(2, 3), keepdim=True).expand_as(value))


def test_padding_attends_to_all_alike_and_in_half_precision_is_finite(gen):
    query = randn(1, D, H, W, gen=gen).half()
    nothing = torch.zeros(1, H, W, dtype=torch.bool)
    got = masked_attention(query, query, query, nothing)
    assert got.dtype == torch.float32
    want = query.float().mean(dim=(2, 3), keepdim=True).expand_as(got)
    torch.testing.assert_close(got, want)


def test_fusion_of_every_pixel(gen, valid):
    a, b = (3 * randn(N, C, H, W, gen=gen) for _ in range(2))
    got = calibrated_fusion(a, b, valid, share=0.3, temperature=0.7)
    squares = [float(t[n, c, y, x]) ** 2 for t in (a, b) for n in range(N) for c in range(C)
               for y in range(H) for x in range(W) if valid[n, y, x]]
    scale = math.sqrt(sum(squares) / len(squares) + 1e-8)
    for n in range(N):
        for y in range(H):
            for x in range(W):
                one, two = (softmax((t[n, :, y, x] / scale).tolist()) for t in (a, b))
                probs = [(0.3 * p + 0.7 * q) ** (1 / 0.7) for p, q in zip(one, two)]
                close(got[n, :, y, x], [p / sum(probs) for p in probs])


def test_fusion_by_hand():
    """z = (2, 0) and g = (0, 4): r = sqrt(5)."""
    z, g = (torch.tensor(v, dtype=torch.float64).view(1, 2, 1, 1) for v in ([2., 0.], [0., 4.]))
    one = torch.ones(1, 1, 1, dtype=torch.bool)
    flat = calibrated_fusion(z, g, one, temperature=1.0).flatten().tolist()
    assert flat == pytest.approx([0.42651, 0.57349], abs=1e-5)
    sharp = calibrated_fusion(z, g, one).flatten().tolist()
    assert sharp == pytest.approx([0.35612, 0.64388], abs=1e-5)


def test_fusion_knows_no_scale(gen, valid):
    z, g = (randn(N, C, H, W, gen=gen) for _ in range(2))
    got = calibrated_fusion(z, g, valid)
    torch.testing.assert_close(calibrated_fusion(10 * z, 10 * g, valid), got, rtol=0, atol=1e-7)
    assert (calibrated_fusion(10 * z, g, valid) - got).abs().max() > 0.01
    other = torch.where(valid[:, None], z, 50.0)  # padding is not in the scale
    keep = valid[:, None].expand_as(got)
    assert torch.equal(calibrated_fusion(other, g, valid)[keep], got[keep])


def test_fusion_keeps_small_probabilities_in_half_precision():
    z = torch.tensor([12.0, 0.0]).view(1, 2, 1, 1)
    got = calibrated_fusion(z.half(), z.half(), torch.ones(1, 1, 1, dtype=torch.bool))
    assert got.dtype == torch.float32 and got.min() > 0
