"""Losses between predictions against loops over the pixels, and figures worked out by hand."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from mmseg_esl.functional import (
    cutmix_masks_by_image,
    merge_logits,
    probability_mse,
    pseudo_cross_entropy,
    pseudo_label,
    weighted_cross_entropy,
)

N, C, H, W = 2, 3, 3, 4


def softmax(values):
    peak = max(values)
    powers = [math.exp(v - peak) for v in values]
    return [p / sum(powers) for p in powers]


def pixels(x):
    """(n, y, x, list of C floats) of ``(N, C, H, W)``."""
    for n in range(x.shape[0]):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                yield n, i, j, x[n, :, i, j].tolist()


@pytest.fixture
def drawn():
    gen = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(N, C, H, W, dtype=torch.float64, generator=gen)
    other = 2 * torch.randn(N, C, H, W, dtype=torch.float64, generator=gen)
    valid = torch.rand(N, H, W, generator=gen) < 0.7
    assert 0 < valid.sum() < valid.numel()
    return logits, other, valid


def test_pseudo_label_of_every_pixel(drawn):
    logits, _, _ = drawn
    labels, confidence = pseudo_label(logits.requires_grad_())
    assert labels.dtype == torch.long and confidence.dtype == torch.float64
    assert not confidence.requires_grad
    for n, i, j, values in pixels(logits):
        probs = softmax(values)
        assert labels[n, i, j] == probs.index(max(probs))
        assert float(confidence[n, i, j]) == pytest.approx(max(probs), rel=1e-12)


def test_confidence_is_at_least_float():
    """Half precision rounds 0.9995 to 1."""
    logits = torch.tensor([8.0, 0.0]).view(1, 2, 1, 1)
    for kind in (torch.bfloat16, torch.float16):
        _, confidence = pseudo_label(logits.to(kind))
        assert confidence.dtype == torch.float32
        assert float(confidence) == pytest.approx(1 / (1 + math.exp(-8)), rel=1e-6)


@pytest.mark.parametrize('tau', [0.0, 0.6, 1.1])
def test_cross_entropy_of_every_pixel(drawn, tau):
    """Over the confident and valid pixels, divided by the valid ones."""
    logits, other, valid = drawn
    labels, confidence = pseudo_label(other)
    loss = pseudo_cross_entropy(logits.requires_grad_(), labels, confidence >= tau, valid)
    total, count, grad = 0.0, int(valid.sum()), torch.zeros_like(logits)
    for n, i, j, values in pixels(logits):
        theirs = softmax(other[n, :, i, j].tolist())
        if not valid[n, i, j] or max(theirs) < tau:
            continue
        probs, want = softmax(values), theirs.index(max(theirs))
        total -= math.log(probs[want]) / count
        for c in range(C):
            grad[n, c, i, j] = (probs[c] - (c == want)) / count
    assert float(loss.detach()) == pytest.approx(total, rel=1e-12)
    loss.backward()
    torch.testing.assert_close(logits.grad, grad, rtol=1e-12, atol=1e-14)
    assert (tau == 1.1) == (not grad.any())


def test_squares_of_every_pixel(drawn):
    logits, other, valid = drawn
    loss = probability_mse(logits.requires_grad_(), other.requires_grad_(), valid)
    total, grad = 0.0, torch.zeros_like(logits)
    for n, i, j, values in pixels(logits):
        if valid[n, i, j]:
            mine, theirs = softmax(values), softmax(other[n, :, i, j].tolist())
            total += sum((a - b) ** 2 for a, b in zip(mine, theirs)) / C
            slopes = [2 * (a - b) / C for a, b in zip(mine, theirs)]
            mean = sum(s * p for s, p in zip(slopes, mine))
            for c in range(C):
                grad[n, c, i, j] = mine[c] * (slopes[c] - mean) / int(valid.sum())
    assert float(loss.detach()) == pytest.approx(total / int(valid.sum()), rel=1e-12)
    loss.backward()
    torch.testing.assert_close(logits.grad, grad, rtol=1e-12, atol=1e-14)
    assert other.grad is None


def test_weighted_mean_of_the_kept_pixels(drawn):
    """Kept pixels as valid ones too: a mean over them, each with its weight (PS-MT)."""
    logits, other, _ = drawn
    labels, confidence = pseudo_label(other)
    keep = confidence >= 0.6
    assert 0 < keep.sum() < keep.numel()
    got = pseudo_cross_entropy(logits, labels, keep, keep, weight=confidence)
    total = 0.0
    for n, i, j, values in pixels(logits):
        theirs = softmax(other[n, :, i, j].tolist())
        if max(theirs) >= 0.6:
            total -= max(theirs) * math.log(softmax(values)[theirs.index(max(theirs))])
    assert float(got) == pytest.approx(total / int(keep.sum()), rel=1e-12)


def test_squares_of_the_kept_pixels_over_the_valid_ones(drawn):
    """Summed over the classes (CutMix-Seg, confidence by pixel)."""
    logits, other, valid = drawn
    keep = pseudo_label(other)[1] >= 0.6
    got = probability_mse(logits, other, valid, keep=keep, over_classes='sum')
    total = 0.0
    for n, i, j, values in pixels(logits):
        theirs = softmax(other[n, :, i, j].tolist())
        if valid[n, i, j] and max(theirs) >= 0.6:
            total += sum((a - b) ** 2 for a, b in zip(softmax(values), theirs))
    assert 0 < total and not keep[~valid].all() and not keep[valid].all()
    assert float(got) == pytest.approx(total / int(valid.sum()), rel=1e-12)


def test_by_hand():
    """Two classes and one pixel: (0.8, 0.2) against (0.6, 0.4), and CPS's two networks."""
    one = torch.ones(1, 1, 1, dtype=torch.bool)

    def of(*probs):
        return torch.tensor(probs, dtype=torch.float64).log().view(1, 2, 1, 1)

    assert float(probability_mse(of(0.8, 0.2), of(0.6, 0.4), one)) == pytest.approx(0.04)
    assert float(probability_mse(of(0.8, 0.2), of(0.6, 0.4), one,
                                 over_classes='sum')) == pytest.approx(0.08)
    z1 = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    z2 = z1.flip(1)
    both = sum(pseudo_cross_entropy(a, pseudo_label(b)[0], one, one)
               for a, b in ((z1, z2), (z2, z1)))
    assert float(both) == pytest.approx(2 * math.log(1 + math.e), rel=1e-6)
    assert float(both) == pytest.approx(2.62652, abs=1e-5)
    assert 1.5 * float(both) == pytest.approx(3.93979, abs=1e-5)


@pytest.mark.parametrize('loss', ['entropy', 'squares'])
def test_nothing_valid_is_a_connected_zero(drawn, loss):
    logits, other, valid = drawn
    none = torch.zeros_like(valid)
    logits.requires_grad_()
    value = pseudo_cross_entropy(logits, pseudo_label(other)[0], valid, none) \
        if loss == 'entropy' else probability_mse(logits, other, none)
    assert value == 0
    value.backward()
    assert logits.grad is not None and not logits.grad.any()


def test_a_divisor_takes_the_count(drawn):
    logits, other, valid = drawn
    asked = []

    def half(count):
        asked.append(int(count))
        return count / 2

    for function, args in ((pseudo_cross_entropy, (pseudo_label(other)[0], valid, valid)),
                           (probability_mse, (other, valid))):
        own = function(logits, *args)
        torch.testing.assert_close(function(logits, *args, divisor=half), 2 * own)
    assert asked == [int(valid.sum())] * 2


def test_ignored_pixels_may_hold_anything(drawn):
    """Not even infinity comes through, nor does it into the gradient."""
    logits, other, valid = drawn
    labels = pseudo_label(other)[0]
    bad = torch.where(valid[:, None], logits, 1e300).requires_grad_()
    for function, args in ((pseudo_cross_entropy, (labels, valid, valid)),
                           (probability_mse, (other, valid))):
        assert torch.equal(function(bad, *args), function(logits, *args))
        grad, = torch.autograd.grad(function(bad, *args), bad)
        assert not grad.transpose(0, 1)[:, ~valid].any() and grad.any()


def test_cross_entropy_is_that_of_one_hot_targets(drawn):
    logits, other, valid = drawn
    labels = pseudo_label(other)[0]
    target = one_hot(labels, C).permute(0, 3, 1, 2).double()
    want = -(target * logits.log_softmax(dim=1)).sum(dim=1)[valid].mean()
    torch.testing.assert_close(pseudo_cross_entropy(logits, labels, valid, valid), want)


# --------------------------------------------------------------------------- boxes of each image

def test_law_of_the_boxes():
    """10,000 draws: half are empty, a box is one rectangle inside, its area in the range."""
    size, num = 64, 10_000
    masks = cutmix_masks_by_image(num, (size, size), generator=torch.Generator().manual_seed(0))
    assert masks.shape == (num, size, size) and masks.dtype == torch.bool
    filled = masks.any(dim=2).any(dim=1)
    assert abs(float((~filled).double().mean()) - 0.5) < 4 * 0.005  # four standard deviations
    rows, cols = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)
    area = masks.sum(dim=(1, 2))
    assert torch.equal(area, rows * cols)  # nothing but the rectangle of its rows and columns
    for any_of in (masks.any(dim=2), masks.any(dim=1)):  # and these are in a row
        steps = any_of.int().diff(dim=1).ne(0).sum(dim=1) + any_of[:, 0] + any_of[:, -1]
        assert (steps[filled] == 2).all()
    boxes, height, width = area[filled].double(), rows[filled].double(), cols[filled].double()
    slack = height + width + 1  # both sides are rounded down
    assert (boxes <= 0.4 * size * size).all() and (boxes + slack >= 0.02 * size * size).all()
    aspect = width / height
    assert ((width + 1) / height >= 0.3).all() and (width / (height + 1) <= 1 / 0.3).all()
    share = (boxes + slack / 2) / size ** 2  # the mean of what was asked for
    assert abs(float(share.mean()) - 0.21) < 0.005
    assert aspect.min() < 0.4 and aspect.max() > 2.5
    # corners are uniform over the places where the box fits, to the right and to the left alike
    for any_of, length in ((masks.any(dim=2), height), (masks.any(dim=1), width)):
        room = size - length
        place = any_of[filled].int().argmax(dim=1)[room > 9] / room[room > 9]
        assert abs(float(place.mean()) - 0.5) < 0.03 and (place == 0).any() and (place == 1).any()
    # every place is reached, the middle most often
    covered = masks.double().mean(dim=0)
    assert covered.min() > 0 and covered[24:40, 24:40].mean() > 4 * covered[0].mean()


def test_boxes_by_the_release_s_law():
    """Aspect and corner of an area are drawn until the box lies inside: tall ones, and squares."""
    num, size = 4000, (60, 90)
    masks = cutmix_masks_by_image(num, size, prob=1.0, generator=torch.Generator().manual_seed(0))
    rows, cols = (masks.any(dim=dim).sum(dim=1).double() for dim in (2, 1))
    rng, drawn = np.random.RandomState(0), []
    while len(drawn) < num:
        area = rng.uniform(0.02, 0.4) * size[0] * size[1]
        while True:
            ratio, y, x = rng.uniform(0.3, 1 / 0.3), rng.randint(size[0]), rng.randint(size[1])
            tall, wide = int(math.sqrt(area * ratio)), int(math.sqrt(area / ratio))
            if y + tall <= size[0] and x + wide <= size[1]:
                break
        drawn.append((tall, wide, y, x))
    tall, wide, y, x = np.array(drawn, float).T
    top, left = (masks.any(dim=dim).int().argmax(dim=1).double() for dim in (2, 1))
    for found, wanted in ((rows, tall), (cols, wide), (top, y), (left, x),
                          (rows.log() - cols.log(), np.log(tall / wide))):
        gap = abs(float(found.mean()) - wanted.mean())
        assert gap < 4 * wanted.std() * math.sqrt(2 / num)  # four standard deviations
        assert float(found.std()) == pytest.approx(wanted.std(), rel=0.06)


@pytest.mark.parametrize('prob, share', [(0.0, 0.0), (1.0, 1.0)])
def test_chances_at_the_ends(prob, share):
    masks = cutmix_masks_by_image(50, (20, 33), prob=prob)
    assert float(masks.flatten(1).any(dim=1).double().mean()) == share
    with pytest.raises(ValueError, match='prob.*1.5'):
        cutmix_masks_by_image(1, (4, 4), prob=1.5)


@pytest.mark.parametrize('size', [(10, 84), (84, 10)])
def test_images_too_long_for_a_box_are_refused(size):
    """At 25 / 3 times their width; drawing would never end."""
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]}.*cutmix='batch'"):
        cutmix_masks_by_image(1, size)
    assert cutmix_masks_by_image(9, (size[0] + 7, size[1] + 7), prob=1.0).any()


def test_boxes_follow_the_generator():
    one, two, other = (cutmix_masks_by_image(
        20, (16, 16), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_weighted_cross_entropy(drawn):
    logits, _, valid = drawn
    weights = torch.rand(N, H, W, dtype=torch.float64) * valid
    labels = torch.where(valid, logits.argmin(dim=1), -1)  # anything where nothing counts
    want = sum(-math.log(softmax(column)[labels[n, i, j]]) * float(weights[n, i, j])
               for n, i, j, column in pixels(logits) if valid[n, i, j])
    found = weighted_cross_entropy(logits, labels, weights, weights.sum() + 3)
    assert float(found) == pytest.approx(want / (float(weights.sum()) + 3), rel=1e-12)
    halved = weighted_cross_entropy(logits, labels, weights, valid.sum(), divisor=lambda n: n * 2)
    assert float(halved) == pytest.approx(want / float(valid.sum()) / 2, rel=1e-12)
    for total, over in ((0.25, 1), (1.0, 1), (1.5, 1.5)):  # at least 1
        found = weighted_cross_entropy(logits, labels, weights, torch.tensor(total))
        assert float(found) == pytest.approx(want / over, rel=1e-12)
    spoilt = torch.where(valid[:, None], logits, torch.inf)
    assert weighted_cross_entropy(spoilt, labels, weights, torch.tensor(1.5)) == found
    logits.requires_grad_()
    none = weighted_cross_entropy(logits, labels, 0 * weights, weights.sum() * 0)
    none.backward()
    assert none == 0 and (logits.grad == 0).all()


# ------------------------------------------------------------------------------ two predictions


def test_merge_by_hand():
    """Of nine classes the second one speaks for its seven most likely."""
    first = torch.arange(9.0).view(1, 9, 1, 1)
    second = torch.tensor([9.0, -5, 3, 1, -9, 0, 2, 4, 8]).view(1, 9, 1, 1)
    want = [4.5, 1, 2.5, 2, 4, 2.5, 4, 5.5, 8]  # classes 1 and 4 repeat the first
    assert merge_logits(first, second, 7).flatten().tolist() == want
    assert torch.equal(merge_logits(first, second, 9), (first + second) / 2)
    assert torch.equal(merge_logits(first, second, 20), (first + second) / 2)
    assert torch.equal(merge_logits(first, first, 7), first)


def test_with_every_pixel_kept_it_is_torchs_mean(drawn):
    """A threshold of 0: the mean over the valid pixels."""
    logits, other, valid = drawn
    labels, confidence = pseudo_label(other)
    got = pseudo_cross_entropy(logits, labels, confidence >= 0, valid)
    want = torch.nn.functional.cross_entropy(logits, torch.where(valid, labels, -100))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
