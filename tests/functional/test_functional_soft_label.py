"""Soft labels and their cross entropy, against loops written from the equations of the paper."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_esl.functional import (
    dynamic_soft_label,
    hard_label,
    label_weight,
    soft_cross_entropy,
    soft_target,
    topk_soft_label,
)
from mmseg_esl.functional.soft_label import _row_blocks

ETAS = (0.80, 0.90, 0.95, 0.99)


def rand_probs(*shape, sharpness=3.0, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(shape, generator=g, dtype=torch.float64)).softmax(1).to(dtype)


def column(*values):
    """One pixel's distribution as (1, C, 1, 1)."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def naive_dominant(p, eta):
    """Dominant classes of one pixel: p is a list of floats. C* is the smallest count whose
    cumulative probability is at least eta, delta the C*-th largest probability."""
    ordered = sorted(p, reverse=True)
    cumulative, delta = 0.0, ordered[-1]
    for value in ordered:
        cumulative += value
        if cumulative >= eta:
            delta = value
            break
    return [c for c, value in enumerate(p) if value >= delta]


def naive_label(probs, choose):
    target, size = torch.zeros_like(probs), torch.zeros_like(probs[:, 0], dtype=torch.long)
    for n in range(probs.shape[0]):
        for y in range(probs.shape[2]):
            for x in range(probs.shape[3]):
                p = probs[n, :, y, x].tolist()
                keep = choose(p)
                total = sum(p[c] for c in keep)
                for c in keep:
                    target[n, c, y, x] = p[c] / total
                size[n, y, x] = len(keep)
    return target, size


def naive_soft_ce(logits, target, valid):
    total, count = 0.0, 0
    for n in range(logits.shape[0]):
        for y in range(logits.shape[2]):
            for x in range(logits.shape[3]):
                if not valid[n, y, x]:
                    continue
                count += 1
                z = logits[n, :, y, x].tolist()
                log_sum = math.log(sum(math.exp(v) for v in z))
                for c, v in enumerate(z):
                    total -= target[n, c, y, x].item() * (v - log_sum)
    return total / count if count else 0.0


# -- dynamic soft label ---------------------------------------------------------------------

@pytest.mark.parametrize('num_classes', [2, 5, 21])
@pytest.mark.parametrize('eta', [*ETAS, 0.5, 1.0])
def test_dynamic_equals_naive(eta, num_classes):
    probs = rand_probs(2, num_classes, 4, 5, seed=num_classes)
    target, size = dynamic_soft_label(probs, mass=eta)
    want, want_size = naive_label(probs, lambda p: naive_dominant(p, eta))
    if eta == 1:  # whether the last bits of the sum reach 1 is rounding: the target cannot tell
        torch.testing.assert_close(target, probs)
    else:
        assert torch.equal(size, want_size)
        torch.testing.assert_close(target, want)
    if num_classes > 2 and eta < 1:
        assert len(want_size.unique()) > 1  # the case is not a trivial one


@pytest.mark.parametrize('eta', ETAS)
def test_dynamic_with_150_classes(eta):
    probs = rand_probs(1, 150, 3, 4, sharpness=1.5)
    target, size = dynamic_soft_label(probs, mass=eta)
    want, want_size = naive_label(probs, lambda p: naive_dominant(p, eta))
    assert torch.equal(size, want_size) and size.min() > 5
    torch.testing.assert_close(target, want)


def test_dynamic_default_is_the_papers_eta():
    probs = rand_probs(1, 7, 6, 6)
    assert torch.equal(dynamic_soft_label(probs)[0], dynamic_soft_label(probs, mass=0.95)[0])
    assert not torch.equal(dynamic_soft_label(probs)[0], dynamic_soft_label(probs, mass=0.8)[0])


def test_dynamic_dtype_shape_and_range():
    for dtype in (torch.float32, torch.float64):
        probs = rand_probs(2, 6, 3, 5, dtype=dtype)
        target, size = dynamic_soft_label(probs)
        assert target.shape == (2, 6, 3, 5) and target.dtype == dtype
        assert size.shape == (2, 3, 5) and size.dtype == torch.long
        assert target.min() >= 0 and target.max() <= 1
        assert size.min() >= 1 and size.max() <= 6
        assert torch.equal((target > 0).sum(1), size)
        torch.testing.assert_close(target.sum(1), torch.ones_like(target[:, 0]))


def test_dynamic_keeps_ties_at_the_threshold():
    # 0.5 + 0.125 reaches 0.6; all four classes of 0.125 share the rank of the last one needed.
    target, size = dynamic_soft_label(column(0.125, 0.5, 0.125, 0.125, 0.125), mass=0.6)
    assert size.item() == 5
    torch.testing.assert_close(target, column(0.125, 0.5, 0.125, 0.125, 0.125))
    target, size = dynamic_soft_label(column(0.25, 0.25, 0.25, 0.25), mass=0.25)
    assert size.item() == 4 and torch.equal(target, torch.full((1, 4, 1, 1), 0.25).double())
    target, size = dynamic_soft_label(column(0.375, 0.0625, 0.1875, 0.1875, 0.1875), mass=0.5)
    assert size.item() == 4 and target[0, 1].item() == 0  # what is below the tie is dropped


@pytest.mark.parametrize('eta', ETAS)
@pytest.mark.parametrize('num_classes', [2, 4, 150])
def test_dynamic_is_one_hot_and_hard_when_confident(eta, num_classes):
    g = torch.Generator().manual_seed(1)
    top = torch.randint(num_classes, (1, 1, 6, 6), generator=g)
    rest = rand_probs(1, num_classes, 6, 6).scatter(1, top, 0)
    peak = eta + (1 - eta) * torch.rand(1, 1, 6, 6, generator=g, dtype=torch.float64)
    peak[..., 0, 0] = eta  # exactly eta is confident too
    probs = (rest / rest.sum(1, keepdim=True) * (1 - peak)).scatter(1, top, peak)
    target, size = dynamic_soft_label(probs, mass=eta)
    hard, hard_size = hard_label(probs)
    assert torch.equal(target, hard) and torch.equal(size, hard_size)
    assert torch.equal(target, F.one_hot(top[:, 0], num_classes).permute(0, 3, 1, 2).double())


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_dynamic_exactly_eta_in_either_precision(dtype):
    for eta in ETAS:
        probs = torch.tensor([eta, 1 - eta], dtype=dtype).view(1, 2, 1, 1)
        assert dynamic_soft_label(probs, mass=eta)[1].item() == 1


def test_dynamic_mass_one_keeps_everything():
    for dtype in (torch.float32, torch.float64):
        probs = rand_probs(2, 19, 5, 5, sharpness=1, dtype=dtype)
        torch.testing.assert_close(dynamic_soft_label(probs, mass=1.0)[0], probs)
    target, _ = dynamic_soft_label(column(1.0, 0.0, 0.0), mass=1.0)
    assert torch.equal(target, column(1.0, 0.0, 0.0))


def test_dynamic_two_classes():
    target, size = dynamic_soft_label(column(0.9, 0.1))
    assert size.item() == 2 and torch.equal(target, column(0.9, 0.1))
    target, size = dynamic_soft_label(column(0.04, 0.96))
    assert size.item() == 1 and torch.equal(target, column(0.0, 1.0))


def test_dynamic_permutes_with_the_classes():
    probs = rand_probs(2, 9, 4, 4)
    perm = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    target, size = dynamic_soft_label(probs)
    permuted, permuted_size = dynamic_soft_label(probs[:, perm])
    torch.testing.assert_close(permuted, target[:, perm])
    assert torch.equal(permuted_size, size)


def test_dynamic_sets_grow_with_the_mass():
    probs = rand_probs(1, 21, 8, 8, sharpness=2)
    sizes = [dynamic_soft_label(probs, mass=eta)[1] for eta in ETAS]
    for small, large in zip(sizes, sizes[1:]):
        assert (small <= large).all() and (small < large).any()


@pytest.mark.parametrize('mass', [0, -0.1, 1.01, float('nan')])
def test_dynamic_refuses_mass(mass):
    with pytest.raises(ValueError, match='mass'):
        dynamic_soft_label(rand_probs(1, 3, 2, 2), mass=mass)


@pytest.mark.parametrize('function', [dynamic_soft_label, topk_soft_label, hard_label])
def test_labels_refuse_wrong_dimensions(function):
    for shape in ((3, 4), (3, 4, 5), (1, 3, 4, 5, 6)):
        with pytest.raises(ValueError, match=r'\(N, C, H, W\)'):
            function(torch.rand(shape))


@given(st.tuples(*[st.integers(1, 4)] * 2, st.integers(1, 9), st.integers(1, 4)),
       st.floats(0.01, 1.0), st.floats(0.0, 50.0), st.integers(0, 10**6),
       st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_distribution_gives_a_target_and_finite_gradients(sizes, mass, sharp, seed, dtype):
    n, h, c, w = sizes
    probs = rand_probs(n, c, h, w, sharpness=sharp, seed=seed, dtype=dtype)
    target, size = dynamic_soft_label(probs, mass=mass)
    torch.testing.assert_close(target.sum(1), torch.ones_like(target[:, 0]))
    assert ((size >= 1) & (size <= c)).all()
    assert (target.argmax(1) == probs.argmax(1)).all()
    g = torch.Generator().manual_seed(seed)
    logits = (sharp * torch.randn(n, c, h, w, generator=g, dtype=dtype)).requires_grad_()
    loss = soft_cross_entropy(logits, target, torch.rand(n, h, w, generator=g) > 0.3)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0 and torch.isfinite(logits.grad).all()


# -- the ablated variants -------------------------------------------------------------------

@pytest.mark.parametrize('k', [1, 2, 5, 9, 30])
def test_topk_equals_naive(k):
    probs = rand_probs(2, 9, 3, 4)
    target, size = topk_soft_label(probs, k=k)
    want, want_size = naive_label(
        probs, lambda p: sorted(range(len(p)), key=lambda c: -p[c])[:k])
    torch.testing.assert_close(target, want)
    assert torch.equal(size, want_size)


def test_topk_default_ties_and_errors():
    probs = rand_probs(1, 9, 3, 4)
    assert torch.equal(topk_soft_label(probs)[0], topk_soft_label(probs, k=5)[0])
    assert topk_soft_label(column(0.5, 0.25, 0.25), k=2)[1].item() == 3
    with pytest.raises(ValueError, match='k must be'):
        topk_soft_label(probs, k=0)


def test_hard_equals_naive():
    probs = rand_probs(2, 7, 4, 5)
    target, size = hard_label(probs)
    want, _ = naive_label(probs, lambda p: [p.index(max(p))])
    assert torch.equal(target, want) and (size == 1).all() and size.dtype == torch.long
    assert torch.equal(target, topk_soft_label(probs, k=1)[0])
    assert torch.equal(hard_label(column(0.4, 0.2, 0.4))[0], column(1, 0, 0))


def test_one_class_is_certain():
    for label in (dynamic_soft_label, topk_soft_label, hard_label):
        target, size = label(torch.ones(1, 1, 2, 3))
        assert (target == 1).all() and (size == 1).all() and size.dtype == torch.long
        assert (label_weight(target, target[:, 0], 'none') == 1).all()


def test_soft_target_is_the_label_of_its_variant():
    probs = rand_probs(2, 9, 4, 5, sharpness=1.0)
    for keys, want in ((dict(), dynamic_soft_label(probs, mass=0.95)),
                       (dict(kind='dsl', mass=0.6), dynamic_soft_label(probs, mass=0.6)),
                       (dict(kind='topk'), topk_soft_label(probs, k=5)),
                       (dict(kind='topk', k=2), topk_soft_label(probs, k=2)),
                       (dict(kind='hard'), hard_label(probs))):
        assert all(torch.equal(a, b) for a, b in zip(soft_target(probs, **keys), want))


def test_weights_of_labels_pixel_by_pixel():
    probs = rand_probs(2, 5, 3, 4, dtype=torch.float32)
    confidence = probs.amax(dim=1).double()
    confidence[0, 0, 0] = 0.95
    target, _ = dynamic_soft_label(probs, mass=0.9)
    found = {kind: label_weight(target, confidence, kind)
             for kind in ('none', 'confidence', 'certainty', 'threshold')}
    assert all(x.shape == (2, 3, 4) and x.dtype == torch.float32 for x in found.values())
    for n in range(2):
        for y in range(3):
            for x in range(4):
                sure = float(confidence[n, y, x])
                entropy = -sum(p * math.log(p) for p in target[n, :, y, x].tolist() if p > 0)
                want = dict(none=1, confidence=sure, certainty=1 - entropy / math.log(5),
                            threshold=float(sure >= 0.95))
                assert {k: float(w[n, y, x]) for k, w in found.items()} == pytest.approx(
                    want, abs=1e-6)
    assert torch.equal(label_weight(target, confidence), found['confidence'])
    half = label_weight(target, confidence, 'threshold', 0.5)
    assert torch.equal(half, (confidence >= 0.5).float())
    with pytest.raises(ValueError, match="kind must be .*'never'"):
        label_weight(target, confidence, 'never')


# -- soft cross entropy ---------------------------------------------------------------------

def ce_case(seed=0, shape=(2, 5, 4, 6), dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype)
    target = dynamic_soft_label(rand_probs(*shape, seed=seed + 1))[0].to(dtype)
    valid = torch.rand(shape[0], *shape[2:], generator=g) > 0.4
    return logits, target, valid


@pytest.mark.parametrize('num_classes', [2, 5, 150])
def test_soft_ce_equals_naive(num_classes):
    logits, target, valid = ce_case(shape=(2, num_classes, 3, 4))
    want = naive_soft_ce(logits, target, valid)
    assert soft_cross_entropy(logits, target, valid).item() == pytest.approx(want, rel=1e-10)
    everywhere = torch.ones_like(valid)
    want = naive_soft_ce(logits, target, everywhere)
    assert soft_cross_entropy(logits, target, everywhere).item() == pytest.approx(want, rel=1e-10)


def test_soft_ce_of_one_pixel_and_another_divisor():
    logits, target, valid = ce_case()
    alone = torch.zeros_like(valid)
    alone[1, 2, 3] = True
    want = -(target * logits.log_softmax(dim=1)).sum(dim=1)[1, 2, 3]
    torch.testing.assert_close(soft_cross_entropy(logits, target, alone), want)
    own, half = (soft_cross_entropy(logits, target, valid, divisor=divisor)
                 for divisor in (None, lambda n: 2 * n))
    torch.testing.assert_close(own, 2 * half)


def test_soft_ce_gradcheck():
    logits, target, valid = ce_case(shape=(2, 4, 2, 3))
    assert torch.autograd.gradcheck(
        lambda z: soft_cross_entropy(z, target, valid), logits.requires_grad_())


def test_soft_ce_gradient_is_softmax_minus_target():
    logits, target, valid = ce_case()
    logits.requires_grad_()
    soft_cross_entropy(logits, target, valid).backward()
    want = (logits.detach().softmax(1) - target) * valid[:, None] / valid.sum()
    torch.testing.assert_close(logits.grad, want)


@pytest.mark.parametrize('num_classes', [2, 19])
def test_soft_ce_of_one_hot_is_torchs_cross_entropy(num_classes):
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(3, num_classes, 5, 7, generator=g, dtype=torch.float64)
    label = torch.randint(num_classes, (3, 5, 7), generator=g)
    ignored = torch.rand(3, 5, 7, generator=g) < 0.3
    target = F.one_hot(label, num_classes).permute(0, 3, 1, 2).double()
    want = F.cross_entropy(logits, label.masked_fill(ignored, 255), ignore_index=255)
    torch.testing.assert_close(soft_cross_entropy(logits, target, ~ignored), want)


def test_soft_ce_of_soft_targets_is_torchs_cross_entropy():
    logits, target, valid = ce_case()
    want = F.cross_entropy(logits, target)
    torch.testing.assert_close(soft_cross_entropy(logits, target, torch.ones_like(valid)), want)


def test_soft_ce_ignores_padding_and_counts_only_pixels():
    logits, target, valid = ce_case()
    loss = soft_cross_entropy(logits, target, valid)
    noise = torch.where(valid[:, None], logits, 100 * torch.rand_like(logits))
    wrong = torch.where(valid[:, None], target, torch.rand_like(target))
    torch.testing.assert_close(soft_cross_entropy(noise, wrong, valid), loss)
    padded = [F.pad(logits, (0, 5, 3, 0)), F.pad(target, (0, 5, 3, 0)), F.pad(valid, (0, 5, 3, 0))]
    torch.testing.assert_close(soft_cross_entropy(*padded), loss)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_soft_ce_without_pixels_is_a_connected_zero(dtype):
    logits, target, valid = ce_case(dtype=dtype)
    logits.requires_grad_()
    loss = soft_cross_entropy(logits, target, torch.zeros_like(valid))
    assert loss.item() == 0 and loss.requires_grad
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize('target_dtype', [None, torch.float32])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_soft_ce_in_half_is_computed_in_single(dtype, target_dtype):
    logits, target, valid = ce_case(shape=(4, 150, 8, 8), dtype=dtype)
    logits = (8 * logits).requires_grad_()
    target = target.to(target_dtype or dtype)
    loss = soft_cross_entropy(logits, target, valid)
    want = soft_cross_entropy(logits.detach().double(), target.double(), valid)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    loss.backward()
    assert logits.grad.dtype == dtype and torch.isfinite(logits.grad).all()


def test_soft_ce_survives_extreme_logits():
    logits = torch.tensor([60000.0, -60000.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    target = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)
    loss = soft_cross_entropy(logits, target, torch.ones(1, 1, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(120000) and torch.isfinite(logits.grad).all()


def test_soft_ce_refuses_shapes_that_do_not_fit():
    logits, target, valid = ce_case()
    for bad in ((logits[:1], target, valid), (logits, target[:, :2], valid),
                (logits, target, valid[:, :1]), (logits, target, valid[:, None])):
        with pytest.raises(ValueError, match='shapes do not fit'):
            soft_cross_entropy(*bad)


# ---------------------------------------------------------------------------------- many blocks

def test_sixteen_pieces_but_none_of_few_pixels():
    """What is held beside the maps is a piece's, so their number is kept."""
    def rows(num, height, width):
        return [piece.stop - piece.start for _, piece in
                _row_blocks(torch.empty(num, 2, height, width))]

    assert rows(4, 200, 300) == 16 * [50]
    assert rows(1, 160, 512) == 16 * [10]
    assert rows(1, 10, 5000) == 10 * [1] and rows(1, 8192, 1) == 2 * [4096]
    assert rows(2, 30, 100) == 2 * [30]  # 4096 pixels are more than an image has


@pytest.mark.parametrize('height, width', [(130, 64), (70, 101), (3, 5000)])
def test_images_of_many_blocks_of_rows(height, width):
    """Each row by itself is one block: the last rows, too, are those of the whole."""
    num = 2
    probs = rand_probs(num, 3, height, width)
    logits = torch.randn(num, 3, height, width, dtype=torch.float64, requires_grad=True)
    valid = torch.rand(num, height, width) < 0.9
    target, size = dynamic_soft_label(probs, mass=0.9)
    for row in (0, height // 2, height - 2, height - 1):
        own, count = dynamic_soft_label(probs[:, :, row:row + 1], mass=0.9)
        assert torch.equal(target[:, :, row:row + 1], own)
        assert torch.equal(size[:, row:row + 1], count)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(num, height, width).double())
    loss = soft_cross_entropy(logits, target, valid)
    every = -(target * logits.log_softmax(dim=1)).sum(dim=1)[valid].mean()
    torch.testing.assert_close(loss, every)
    got, want = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, every))
    torch.testing.assert_close(got, want)
