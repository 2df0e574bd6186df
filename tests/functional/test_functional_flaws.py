"""GCT's maps against loops over the pixels."""
from __future__ import annotations

import math

import pytest
import torch

from mmseg_esl.functional import (
    exchange,
    flaw_target,
    flaws,
    gaussian_blur,
    handle_flaws,
    mean_square,
    not_padding,
)


def reflect(i, n):
    return -i if i < 0 else 2 * (n - 1) - i if i >= n else i


def blur(rows, size):
    """One pass over both axes at once, pixel by pixel."""
    sigma, half = 0.3 * ((size - 1) / 2 - 1) + 0.8, size // 2
    height, width, offsets = len(rows), len(rows[0]), range(-half, half + 1)
    weight = {(a, b): math.exp(-(a * a + b * b) / (2 * sigma ** 2))
              for a in offsets for b in offsets}
    total = sum(weight.values())
    return [[sum(w * rows[reflect(y + a, height)][reflect(x + b, width)]
                 for (a, b), w in weight.items()) / total for x in range(width)]
            for y in range(height)]


def odd(number):
    return int(number) if int(number) % 2 else int(number) + 1


def stretch(rows, keep, least=-1.0):
    values = [v for r, row in zip(rows, keep) for v, k in zip(r, row) if k]
    if not values or max(values) <= least:
        return [[0.0] * len(rows[0]) for _ in rows]
    low, high = min(values), max(values)
    return [[(v - low) / (high - low + 1e-9) if k else 0.0 for v, k in zip(r, row)]
            for r, row in zip(rows, keep)]


def handled(rows, keep):
    clipped = [[max(v, 0.0) if k else 0.0 for v, k in zip(r, row)] for r, row in zip(rows, keep)]
    return stretch(blur(clipped, odd(len(rows) / 16)), keep, least=0.1)


def target(probs, labels, known):
    height, width = len(labels), len(labels[0])
    flaws = [[0.5 * sum(abs((c == labels[y][x]) - probs[c][y][x]) for c in range(len(probs)))
              if known[y][x] else 0.0 for x in range(width)] for y in range(height)]
    flaws = blur(flaws, odd(height / 8))
    flaws = [[max(flaws[reflect(y + a, height)][reflect(x + b, width)]
                  for a in (-1, 0, 1) for b in (-1, 0, 1)) for x in range(width)]
             for y in range(height)]
    return stretch(blur(flaws, odd(height / 4)), known)


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize('size', [1, 3, 5])
def test_blur_of_every_pixel(gen, size):
    maps = torch.randn(2, 9, 7, dtype=torch.float64, generator=gen)
    want = [blur(rows, size) for rows in maps.tolist()]
    torch.testing.assert_close(gaussian_blur(maps, size), maps.new_tensor(want), rtol=0, atol=1e-12)
    flat = torch.full((1, 9, 7), 0.3, dtype=torch.float64)
    torch.testing.assert_close(gaussian_blur(flat, size), flat)  # the weights sum to 1


def test_a_blur_wider_than_the_image():
    maps = torch.rand(1, 5, 3)
    assert torch.equal(gaussian_blur(maps, 99), gaussian_blur(maps, 5))


@pytest.mark.parametrize('height', [9, 32, 40])
def test_handled_flaws_of_every_pixel(gen, height):
    flaws = torch.randn(3, height, 9, dtype=torch.float64, generator=gen)
    flaws[2] = flaws[2] * 0.02  # nothing above 0.1
    inside = torch.ones(3, height, 9, dtype=torch.bool)
    inside[1, :, 7:] = False
    before = flaws.clone()
    got = handle_flaws(flaws, inside)
    want = [handled(rows, keep) for rows, keep in zip(flaws.tolist(), inside.tolist())]
    torch.testing.assert_close(got, flaws.new_tensor(want), rtol=0, atol=1e-12)
    assert torch.equal(flaws, before)  # the detector's loss needs them as they are
    assert got[:2].amax(dim=(1, 2)).tolist() == pytest.approx([1, 1]) and not got[2].any()
    assert not handle_flaws(flaws, torch.zeros_like(inside)).any()


@pytest.mark.parametrize('peak, found', [(0.1, 0), (0.1001, 1), (0.15, 1)])
def test_a_map_counts_that_has_a_value_above_a_tenth(peak, found):
    flaws = torch.zeros(1, 9, 9, dtype=torch.float64)  # too small to be blurred
    flaws[0, 4, 4] = peak
    got = handle_flaws(flaws, torch.ones(1, 9, 9, dtype=torch.bool))
    assert float(got.amax()) == pytest.approx(found, abs=1e-6) and int((got > 0).sum()) == found


def test_a_faint_flaw_of_the_target_is_stretched_too():
    probs = torch.zeros(1, 2, 16, 16, dtype=torch.float64)
    probs[:, 0] = 1
    probs[0, :, 8, 8] = torch.tensor([0.999, 0.001])
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    assert float(flaw_target(probs, labels, labels == 0).amax()) == pytest.approx(1, abs=1e-4)


def test_what_padding_holds_does_not_matter(gen):
    flaws = torch.randn(1, 40, 20, generator=gen)
    inside = torch.ones(1, 40, 20, dtype=torch.bool)
    inside[..., 15:] = False
    other = torch.where(inside, flaws, 50.0)
    assert torch.equal(handle_flaws(flaws, inside), handle_flaws(other, inside))


@pytest.mark.parametrize('one, two, learns', [
    # bad is above 0.6; who learns: the first, the second, neither; are both bad
    (0.9, 0.2, (True, False, False)), (0.7, 0.5, (True, False, False)),
    (0.2, 0.9, (False, True, False)), (0.5, 0.7, (False, True, False)),
    (0.9, 0.7, (False, False, True)), (0.7, 0.9, (False, False, True)),
    (0.5, 0.3, (True, False, False)), (0.3, 0.5, (False, True, False)),
    (0.4, 0.4, (False, False, False)), (0.6, 0.6, (False, False, False))])
def test_who_learns(one, two, learns):
    found = exchange(torch.full((1, 1, 1), one, dtype=torch.float64),
                     torch.full((1, 1, 1), two, dtype=torch.float64))
    assert tuple(bool(x) for x in found) == learns


@pytest.mark.parametrize('height', [9, 33])
def test_target_of_every_pixel(gen, height):
    probs = torch.randn(2, 3, height, 9, dtype=torch.float64, generator=gen).softmax(dim=1)
    labels = torch.randint(3, (2, height, 9), generator=gen)
    known = torch.rand(2, height, 9, generator=gen) < 0.8
    labels[~known] = 255
    got = flaw_target(probs, labels, known)
    want = [target(*(x.tolist() for x in each)) for each in zip(probs, labels, known)]
    torch.testing.assert_close(got, probs.new_tensor(want), rtol=0, atol=1e-9)
    assert got.amax() > 0.99


def test_a_perfect_prediction_has_no_flaws():
    labels = torch.randint(3, (2, 16, 16))
    probs = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).double()
    known = torch.ones_like(labels, dtype=torch.bool)
    assert not flaw_target(probs, labels, known).any()
    assert not flaw_target(probs.roll(1, 1), labels, ~known).any()  # nothing known


def test_padding_is_what_ends_without_a_label():
    labels = torch.zeros(3, 4, 5, dtype=torch.long)
    labels[0, 3:] = 255
    labels[0, :, 4:] = 255
    labels[0, 1, 1] = 255  # a border within the image
    labels[0, 0] = 255
    labels[2] = 255
    want = torch.ones(3, 4, 5, dtype=torch.bool)
    want[0, 3:], want[0, :, 4:], want[2] = False, False, False
    assert torch.equal(not_padding(labels), want)


def test_mean_square(gen):
    errors = torch.randn(2, 3, 4, dtype=torch.float64, generator=gen).requires_grad_()
    keep, valid = (torch.rand(2, 3, 4, generator=gen) < p for p in (0.5, 0.7))
    total = sum(float(errors[i, y, x].detach()) ** 2 for i in range(2) for y in range(3)
                for x in range(4) if keep[i, y, x] and valid[i, y, x])
    got = mean_square(errors, keep, valid)
    assert float(got.detach()) == pytest.approx(total / int(valid.sum()), rel=1e-12)
    zero = mean_square(errors, keep, torch.zeros_like(valid))
    zero.backward()
    assert zero == 0 and not errors.grad.any()
    alone = torch.zeros_like(valid)
    alone[1, 2, 3] = True  # of one pixel the mean is its own
    assert mean_square(errors, alone, alone).detach() == errors[1, 2, 3].detach() ** 2
    assert float(mean_square(errors, valid, valid, lambda n: n * 4)) == pytest.approx(
        float(mean_square(errors, valid, valid)) / 4)


def test_a_uniform_prediction_of_two_classes_is_half_wrong(monkeypatch):
    """Before it is blurred; afterwards each image is stretched, and nothing stands out."""
    blurred = []
    monkeypatch.setattr(flaws, '_blur', lambda maps, share: blurred.append(maps) or maps)
    labels = torch.randint(2, (1, 6, 6))
    found = flaw_target(torch.full((1, 2, 6, 6), 0.5), labels, torch.ones(1, 6, 6).bool())
    assert (blurred[0] == 0.5).all() and not found.any()
