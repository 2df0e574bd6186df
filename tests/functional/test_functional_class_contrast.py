"""Contrast of pixels with classes against loops over anchors, and its closed forms."""
import math

import pytest
import torch

from mmseg_esl.functional import (
    PixelsByClass,
    class_contrast,
    class_weights,
    confusion,
    cosines,
    draw_classes,
    negative_classes,
)
from mmseg_esl.functional.contrast import SumOverBlocks


@pytest.fixture(params=[False, True], ids=['reads', 'waits'])
def as_on_any_device(request, monkeypatch):
    """Anchors of nobody are left out where that can be seen without a wait."""
    monkeypatch.setattr('mmseg_esl.functional.contrast.waits_for_reads', lambda _: request.param)


def unit(v):
    return v / v.norm()


def among(keys):
    return lambda unit, some: cosines(unit, keys[some])


def loop(anchors, positives, keys, weights, temperature):
    total = 0.0
    for a, p, ks, w in zip(anchors, positives, keys, weights.tolist()):
        if w:
            scores = [torch.dot(unit(a), unit(k)) / temperature for k in (p, *ks)]
            top = sum(torch.exp(s) for s in scores)
            total = total + w * -torch.log(torch.exp(scores[0]) / top)
    return total


@pytest.mark.usefixtures('as_on_any_device')
@pytest.mark.parametrize('cells', [1, 40, 10 ** 6])  # one anchor at a time, some, all
def test_against_a_loop(monkeypatch, cells):
    monkeypatch.setattr(SumOverBlocks, 'CELLS', cells)
    anchors = torch.randn(13, 6, dtype=torch.float64, requires_grad=True)
    positives = torch.randn(13, 6, dtype=torch.float64)
    keys = torch.randn(13, 5, 6, dtype=torch.float64)
    weights = torch.rand(13, dtype=torch.float64) * (torch.arange(13) % 3 > 0)
    found = class_contrast(anchors, positives, among(keys), weights, 5, 0.4)
    got, = torch.autograd.grad(found, anchors)
    want = loop(anchors, positives, keys, weights, 0.4)
    expected, = torch.autograd.grad(want, anchors)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert (got[weights == 0] == 0).all() and (got[weights > 0] != 0).any(dim=1).all()


@pytest.mark.parametrize('num, want', [(50, 2.04985), (512, 4.25265)])
def test_an_anchor_at_its_positive_among_orthogonal_negatives(num, want):
    anchor, keys = torch.zeros(1, num + 1), torch.zeros(1, num, num + 1)
    anchor[0, 0] = 3.0
    keys[0, :, 1:] = torch.eye(num)
    found = class_contrast(anchor, 7 * anchor, among(keys), torch.ones(1), num)
    assert float(found) == pytest.approx(math.log(1 + num * math.exp(-2)), rel=1e-6)
    assert float(found) == pytest.approx(want, abs=1e-5)


def test_spoilt_keys_of_an_anchor_that_does_not_count():
    anchors = torch.randn(3, 4, requires_grad=True)
    keys = torch.randn(3, 2, 4)
    keys[1], positives = torch.nan, torch.randn(3, 4)
    weights = torch.tensor([0.5, 0.0, 0.5])
    class_contrast(anchors, positives, among(keys), weights, 2).backward()
    assert anchors.grad.isfinite().all() and (anchors.grad[1] == 0).all()
    none = class_contrast(anchors, positives, among(keys), 0 * weights, 2)
    assert none == 0 and none.requires_grad
    with pytest.raises(ValueError, match='temperature'):
        class_contrast(anchors, positives, among(keys), weights, 2, 0.0)


def test_short_and_empty_anchors():
    anchors, positives, keys = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 2, 4)
    want, found = (class_contrast(x, positives, among(keys), torch.ones(3), 2)
                   for x in (anchors, 1e-5 * anchors))
    torch.testing.assert_close(found, want)
    anchors[0] = 0
    anchors.requires_grad_()
    class_contrast(anchors, positives, among(keys), torch.ones(3), 2).backward()
    assert anchors.grad.isfinite().all() and anchors.grad.abs().max() <= 2 / 0.5 / 1e-6


def test_pixels_are_drawn_of_the_wanted_class():
    classes = torch.randint(-1, 4, (60,))
    classes[classes == 2] = 3  # nobody
    pixels = PixelsByClass.of(classes, 4)
    assert pixels.count.tolist() == [int((classes == c).sum()) for c in range(4)]
    wanted = torch.randint(0, 4, (5, 7))
    draw = torch.rand(5, 7, dtype=torch.float64)
    found = pixels.pick(wanted, draw)
    for w, u, pixel in zip(wanted.flatten(), draw.flatten(), found.flatten()):
        mine = [i for i, c in enumerate(classes.tolist()) if c == w]
        assert (int(pixel) == mine[int(u * len(mine))]) if mine else (0 <= pixel < 60)


def test_pixels_are_drawn_alike():
    classes = torch.tensor([1, 0, 1, 1, -1, 1, 0, 1])
    pixels, n = PixelsByClass.of(classes, 2), 20000
    found = pixels.pick(torch.ones(n, dtype=torch.long), torch.rand(n, dtype=torch.float64))
    count = torch.bincount(found, minlength=8).double()
    assert (count[classes != 1] == 0).all()
    chi = ((count[classes == 1] - n / 5) ** 2 / (n / 5)).sum()
    assert chi < 18.5  # of 4 degrees of freedom: once in a thousand
    nobody = PixelsByClass.of(torch.full((3,), -1), 2)
    assert nobody.pick(torch.tensor([0, 1]), torch.rand(2).double()).max() < 3
    last = PixelsByClass.of(torch.zeros(3, dtype=torch.long), 2)  # which begins behind all pixels
    assert last.pick(torch.tensor([1]), torch.zeros(1).double()) == 2


def test_weights():
    usable = torch.tensor([True, False, True, True])
    present = torch.tensor([True, True, True, False])
    assert class_weights(usable, present, 8).tolist() == [1 / 24, 0, 1 / 24, 0]
    # of the anchors of two processes, of which one has no class 2
    halved = class_weights(usable, present, 8, lambda n: n.double() * torch.tensor([1, 1, .5, 1]))
    assert halved.tolist() == [1 / 24, 0, 1 / 12, 0]
    two = torch.tensor([True, True, False, False])
    assert class_weights(usable, two, 1).tolist() == [1 / 2, 0, 0, 0]
    alone = torch.tensor([True, False, False, False])
    assert class_weights(alone, alone, 8).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize('low, high', [(3, 20), (2, 4), (1, 2)])
def test_negatives_by_full_sorting(low, high):
    probs = torch.randint(0, 5, (3, 6, 4, 5)).float().softmax(dim=1)  # with ties
    classes, keep = torch.randint(0, 6, (3, 4, 5)), torch.rand(3, 4, 5) > 0.3
    found = negative_classes(probs, classes, keep, 2, low_rank=low, high_rank=high)
    for b in range(3):
        for y in range(4):
            for x in range(5):
                column = probs[b, :, y, x].tolist()
                order = sorted(range(6), key=lambda c: (-column[c], c))
                for c in range(6):
                    rank = order.index(c)
                    want = rank < low and c != classes[b, y, x] if b < 2 else low <= rank < high
                    assert bool(found[b, c, y, x]) == bool(want and keep[b, y, x])


def test_ranks_of_the_release():
    """A labelled pixel's first three classes but its own; of the others the 4th to the 20th."""
    logits = -torch.arange(30.0).view(1, 30, 1, 1).expand(2, 30, 1, 1)
    found = negative_classes(logits, torch.ones(2, 1, 1).long(), torch.ones(2, 1, 1).bool(), 1)
    assert found[0].flatten().nonzero().flatten().tolist() == [0, 2]
    assert found[1].flatten().nonzero().flatten().tolist() == list(range(3, 20))


def test_classes_are_drawn_as_often_as_they_are_alike():
    """Cosines 1 and 0 at temperature 0.5: e^2 / (e^2 + 1) and the rest."""
    means = torch.tensor([[2.0, 0], [5, 0], [0, 3], [1, 1]])
    present = torch.tensor([True, True, True, False])
    draw = torch.rand(4, 100000, dtype=torch.float64)
    found = draw_classes(confusion(means, present), draw)
    assert found.shape == draw.shape
    share = torch.bincount(found[0], minlength=4) / 1e5
    assert share[0] == 0 and share[3] == 0
    assert float(share[1]) == pytest.approx(0.88080, abs=0.01)
    assert float(share[2]) == pytest.approx(0.11920, abs=0.01)
    assert not (found[1] == 1).any() and not (found == 3).any()


def test_classes_lot_by_lot():
    means = torch.randn(6, 5, dtype=torch.float64)
    present = torch.tensor([True, False, True, True, False, True])
    draw = torch.rand(6, 40, dtype=torch.float64)
    found = draw_classes(confusion(means, present, 0.3), draw)
    for c in range(6):
        others = [k for k in range(6) if present[k] and k != c]
        p = torch.stack([torch.dot(unit(means[c]), unit(means[k])) / 0.3 for k in others]).exp()
        for lot, k in zip(draw[c], found[c]):
            below = (p / p.sum()).cumsum(0)
            assert int(k) == others[int((below <= lot).sum())]
    two = draw_classes(confusion(means[:2], torch.tensor([True, True])), draw[:2])
    assert (two[0] == 1).all() and (two[1] == 0).all()
    lowest = draw_classes(confusion(means, present), torch.zeros(6, 1, dtype=torch.float64))
    assert lowest[:, 0].tolist() == [2, 0, 0, 0, 0, 0]  # the first that is present, never itself
    sums = confusion(means[:2], torch.tensor([True, False]))
    assert not sums[0].any() and sums[1].tolist() == [1, 1]
    alone = draw_classes(sums, draw[:2])
    assert ((alone >= 0) & (alone < 2)).all()  # nobody: within bounds
