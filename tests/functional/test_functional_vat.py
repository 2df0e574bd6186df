"""Adversarial noise against gradients by hand, and what the published trial step makes of it."""
import pytest
import torch
from torch import nn

from mmseg_esl.functional import vat_noise


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def lengths(x):
    return x.flatten(1).norm(dim=1)


@pytest.fixture
def features():
    return torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=gen(1))


def decoder():
    torch.manual_seed(2)
    layers = nn.Conv2d(4, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 1)
    return nn.Sequential(*layers).double()


def test_against_numerical_gradients(features):
    """KL written out, its slope along each coordinate by central differences."""
    decode = decoder()
    got = vat_noise(decode, features, xi=0.1, radius=2.0, generator=gen(3))
    start = torch.rand(features.shape, dtype=torch.float64, generator=gen(3)) - 0.5
    start = start / lengths(start).view(-1, 1, 1, 1)

    @torch.no_grad()
    def distance(direction):
        q, p = (decode(x).softmax(dim=1) for x in (features, features + 0.1 * direction))
        return float((q * (q / p).log()).sum() / len(q))  # 'batchmean'

    want, eps = torch.zeros_like(start), 1e-4
    for i in range(start.numel()):
        step = torch.zeros(start.numel(), dtype=torch.float64)
        step[i] = eps
        step = step.view_as(start)
        want.view(-1)[i] = (distance(start + step) - distance(start - step)) / (2 * eps)
    want = 2 * want / (lengths(want) + 1e-8).view(-1, 1, 1, 1)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('radius', [0.5, 2.0])
def test_length_is_the_radius(features, radius):
    for kind in (torch.float64, torch.float32):
        decode = decoder().to(kind)
        noise = vat_noise(decode, features.to(kind), radius=radius)
        assert noise.dtype == kind and not noise.requires_grad
        torch.testing.assert_close(lengths(noise), torch.full((3,), radius, dtype=kind),
                                   rtol=1e-2, atol=0)


def test_one_pixel_and_a_linear_decoder():
    """Two classes: the noise is along the difference of the classifier's rows."""
    decode = nn.Conv2d(5, 2, 1).double()
    noise = vat_noise(decode, torch.randn(4, 5, 1, 1, dtype=torch.float64))
    rows = decode.weight.detach()[:, :, 0, 0]
    axis = (rows[1] - rows[0]) / (rows[1] - rows[0]).norm()
    cosine = (noise[:, :, 0, 0] @ axis).abs() / lengths(noise)
    torch.testing.assert_close(cosine, torch.ones(4, dtype=torch.float64), rtol=1e-5, atol=0)


def test_no_gradient_is_left_behind(features):
    decode = decoder()
    kept = torch.randn_like(decode[0].weight)
    decode[0].weight.grad = kept.clone()
    features.requires_grad_()
    noise = vat_noise(decode, features)
    assert torch.equal(decode[0].weight.grad, kept) and decode[2].weight.grad is None
    assert features.grad is None and noise.grad_fn is None


def test_images_do_not_meet(features):
    """Each image's noise is its own, whatever else is in the batch."""
    decode, state = decoder(), gen(5)
    whole = vat_noise(decode, features, generator=state)
    state = gen(5)
    first = vat_noise(decode, features[:1], generator=state)
    whole, first = (x[0] / x[0].norm() for x in (whole, first))
    torch.testing.assert_close(whole, first, rtol=1e-9, atol=1e-12)


def test_what_is_not_valid_has_no_say(features):
    """A decoder that sees one place at a time: no noise there, whatever stands there."""
    decode = nn.Conv2d(4, 3, 1).double()
    valid = torch.ones(3, 10, 12, dtype=torch.bool)
    valid[:, :, 8:] = False  # the last two of six columns
    one = vat_noise(decode, features, valid=valid, generator=gen())
    assert not one[..., 4:].any() and one[..., :4].ne(0).all()
    features[..., 4:] = torch.randn(3, 4, 5, 2).double()
    assert torch.equal(one, vat_noise(decode, features, valid=valid, generator=gen()))
    whole = vat_noise(decode, features, valid=torch.ones_like(valid), generator=gen())
    torch.testing.assert_close(whole, vat_noise(decode, features, generator=gen()))
    assert not vat_noise(decode, features, valid=torch.zeros_like(valid)).any()


def test_the_defaults(features):
    decode = decoder()
    got = vat_noise(decode, features, generator=gen())
    assert torch.equal(got, vat_noise(decode, features, xi=0.1, radius=2.0, generator=gen()))
    assert not torch.equal(got, vat_noise(decode, features, xi=0.2, generator=gen()))
    # of 8 columns the 3rd alone counts: at (1 + 0.5) 8 / 6 - 0.5 it is the 2nd one's of six
    valid = torch.zeros(3, 5, 8, dtype=torch.bool)
    valid[..., 2] = True
    one_by_one = nn.Conv2d(4, 3, 1).double()
    for keys, columns in ((dict(), [1]), (dict(align_corners=True), [])):
        noise = vat_noise(one_by_one, features, valid=valid, **keys)
        assert noise.abs().amax(dim=(0, 1, 2)).nonzero().flatten().tolist() == columns


def test_an_answer_that_never_changes_gives_no_noise():
    noise = vat_noise(lambda x: 0 * x[:, :2], torch.randn(2, 4, 3, 3))
    assert noise.isfinite().all() and not noise.any()


def test_the_published_step_finds_nothing(features):
    """In float32 the gradient is below what is added to its length."""
    decode, features = decoder().float(), features.float()
    published = vat_noise(decode, features, xi=1e-6, generator=gen())
    ours = vat_noise(decode, features, generator=gen())
    assert lengths(published).max() < 0.05
    assert lengths(ours).min() > 1.98


def test_half_precision_and_no_grad():
    """float32 inside, the features' own kind outside; under no_grad too."""
    network, seen = decoder().float(), set()

    def decode(x):
        logits = network(x)
        seen.add(logits.dtype)
        return logits

    features = torch.randn(2, 4, 3, 3).bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16), torch.no_grad():
        noise = vat_noise(decode, features, generator=gen())
    assert noise.dtype == torch.bfloat16 and seen == {torch.float32}
    want = vat_noise(decode, features.float(), generator=gen())
    torch.testing.assert_close(noise.float(), want, rtol=1e-2, atol=1e-3)
