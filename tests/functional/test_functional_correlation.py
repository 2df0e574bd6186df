"""Propagation by correlation against loops over positions and pixels."""
import math

import pytest
import torch
import torch.nn.functional as F

from mmseg_esl.functional import (
    correlated_logits,
    correlation_maps,
    correlation_regions,
    probability_kl,
    spread_labels,
)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*size, seed=0):
    return torch.randn(*size, generator=gen(seed), dtype=torch.float64)


EVERY = torch.ones(2, 3, 4, dtype=torch.bool)


# --------------------------------------------------------------------------------------- maps

def test_maps_against_a_loop():
    one, two = rand(2, 5, 3, 4), rand(2, 5, 3, 4, seed=1)
    valid = torch.rand(2, 3, 4, generator=gen(2)) < 0.7
    maps = correlation_maps(one, two, valid)
    assert maps.shape == (2, 12, 3, 4)
    for n in range(2):
        for i in range(12):
            terms = {}
            for j in range(12):
                if valid[n].flatten()[j]:
                    a, b = one[n].flatten(1)[:, i], two[n].flatten(1)[:, j]
                    terms[j] = math.exp(sum(x * y for x, y in zip(a.tolist(), b.tolist()))
                                        / math.sqrt(5))
            for j in range(12):
                want = terms.get(j, 0.0) / sum(terms.values())
                assert maps[n, i].flatten()[j].item() == pytest.approx(want, rel=1e-12, abs=1e-15)


def test_rows_sum_to_one_and_columns_need_not():
    maps = correlation_maps(rand(2, 5, 3, 4), rand(2, 5, 3, 4, seed=1), EVERY).flatten(2)
    torch.testing.assert_close(maps.sum(dim=2), torch.ones(2, 12).double())
    assert (maps.sum(dim=1) - 1).abs().max() > 0.1


def test_nothing_but_padding_is_finite():
    maps = correlation_maps(rand(1, 5, 3, 4), rand(1, 5, 3, 4), ~EVERY[:1])
    assert torch.equal(maps, torch.full_like(maps, 1 / 12))
    assert (correlated_logits(rand(1, 3, 6, 8), maps, ~EVERY[:1]) == 0).all()
    assert not correlation_regions(maps, ~EVERY[:1], num=4).any()


@pytest.mark.parametrize('corners', [False, True])
def test_uniform_maps_and_identity(corners):
    logits = rand(2, 3, 3, 4)
    uniform = correlation_maps(torch.zeros(2, 5, 3, 4).double(), rand(2, 5, 3, 4), EVERY)
    found = correlated_logits(logits, uniform, EVERY, align_corners=corners)
    # sums over rows of 1 / n: the mean, at every position
    want = logits.mean(dim=(2, 3), keepdim=True).expand_as(logits)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
    identity = torch.eye(12).double().unflatten(1, (3, 4)).expand(2, 12, 3, 4)
    found = correlated_logits(logits, identity, EVERY, align_corners=corners)
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-12)


def test_logits_against_a_loop():
    logits, maps = rand(2, 3, 3, 4), rand(2, 12, 3, 4, seed=1)
    valid = torch.rand(2, 3, 4, generator=gen(2)) < 0.7
    found = correlated_logits(logits, maps, valid).flatten(2)
    for n in range(2):
        for j in range(12):
            want = sum(logits[n].flatten(1)[:, i] * maps[n].flatten(1)[i, j]
                       for i in range(12) if valid[n].flatten()[i])
            torch.testing.assert_close(found[n, :, j], want)


def test_logits_are_resized_there_and_back():
    logits, maps = rand(1, 3, 9, 13), rand(1, 12, 3, 4, seed=1)
    small = F.interpolate(logits, (3, 4), mode='bilinear', align_corners=True)
    inner = correlated_logits(small, maps, EVERY[:1], align_corners=True)
    want = F.interpolate(inner, (9, 13), mode='bilinear', align_corners=True)
    valid = torch.ones(1, 9, 13, dtype=torch.bool)
    found = correlated_logits(logits, maps, valid, align_corners=True)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)


def test_where_the_gradient_goes():
    logits = rand(2, 3, 3, 4).requires_grad_()
    one = rand(2, 5, 3, 4, seed=1).requires_grad_()
    maps = correlation_maps(one, rand(2, 5, 3, 4, seed=2), EVERY)
    correlated_logits(logits, maps, EVERY).square().sum().backward()
    assert logits.grad is None and one.grad.abs().sum() > 0


def test_half_precision_under_autocast():
    one, two = rand(2, 5, 3, 4).float(), rand(2, 5, 3, 4, seed=1).float()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        maps = correlation_maps(one.bfloat16(), two.bfloat16(), EVERY)
        found = correlated_logits(rand(2, 3, 6, 8).bfloat16(), maps, EVERY)
    assert maps.dtype == found.dtype == torch.float32
    want = correlation_maps(one.bfloat16().float(), two.bfloat16().float(), EVERY)
    torch.testing.assert_close(maps, want)


def test_corners_are_not_aligned_unless_asked():
    one, two, logits = rand(1, 5, 3, 4), rand(1, 5, 3, 4, seed=1), rand(1, 3, 9, 13)
    valid = torch.rand(1, 9, 13, generator=gen(2)) < 0.5

    def found(**keys):
        maps = correlation_maps(one, two, valid, **keys)
        plain = correlation_maps(one, two, valid)
        return (maps, correlated_logits(logits, plain, valid, **keys),
                correlation_regions(plain, valid, generator=gen(3), **keys))

    for default, same, other in zip(found(), found(align_corners=False), found(align_corners=True)):
        assert torch.equal(default, same) and not torch.equal(default, other)


# ------------------------------------------------------------------------------------ regions

def regions_of(*maps):
    """Of an image of as many positions, each of which is drawn."""
    maps = torch.tensor(maps, dtype=torch.float64)
    maps = maps.repeat(maps.shape[1] // len(maps), 1)[None, :, None]
    every = torch.ones(1, *maps.shape[2:], dtype=torch.bool)
    found = correlation_regions(maps, every, generator=gen())
    assert found.shape == (1, 128, *maps.shape[2:])  # as many as in the release
    return found[0].any(dim=0).flatten().tolist()


def test_regions_by_hand():
    assert regions_of([0.0, 0.5, 1.0]) == [False, False, True]  # the middle itself is not above
    faint = [1e-4, 1e-4 * 1.004, 1e-4 * 1.005]  # as of the maps of many positions
    assert regions_of(faint) == [False, True, True]
    assert regions_of([0.25, 0.25, 0.25 + 1e-9]) == [False] * 3  # rounding alone



@pytest.mark.parametrize('corners', [False, True])
def test_regions_against_a_loop(corners):
    maps = rand(2, 12, 3, 4).softmax(dim=1)
    maps[0, 5] = 0.25  # constant
    valid = torch.ones(2, 6, 9, dtype=torch.bool)
    valid[1, :, :2] = False
    found = correlation_regions(maps, valid, num=60, align_corners=corners, generator=gen(3))
    rows = torch.randint(12, (60,), generator=gen(3)).tolist()
    assert found.shape == (2, 60, 6, 9) and set(rows) == set(range(12))  # the last position too
    small = F.interpolate(valid[:, None].float(), (3, 4), mode='nearest-exact')[:, 0] > 0

    def row_is_not_flat(n, row):
        return (n, row) != (0, 5)

    for n in range(2):
        for k, row in enumerate(rows):
            large = F.interpolate(maps[n, row][None, None], (6, 9), mode='bilinear',
                                  align_corners=corners)[0, 0]
            low, high = float(large.min()), float(large.max())
            for y in range(6):
                for x in range(9):
                    want = (row_is_not_flat(n, row) and bool(small[n].flatten()[row])
                            and (float(large[y, x]) - low) / (high - low) > 0.5)
                    assert bool(found[n, k, y, x]) == want


# ------------------------------------------------------------------------------------- spread

def spread_by_loop(labels, keep, regions, threshold):
    labels, kept = labels.clone(), keep.clone()
    for n in range(len(labels)):
        for region in regions[n]:
            size, votes = int(region.sum()), {}
            for y, x in (region & keep[n]).nonzero().tolist():
                votes[int(labels[n, y, x])] = votes.get(int(labels[n, y, x]), 0) + 1
            total = sum(votes.values())
            if total == 0 or total / size < threshold:
                continue
            ruler = max(sorted(votes), key=votes.get)  # the lowest of several
            if votes[ruler] / total > threshold:
                labels[n][region] = ruler
                kept[n] |= region
    return labels, kept


def test_two_overlapping_regions_by_hand():
    labels = torch.tensor([[[0, 0, 0, 1], [0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 2, 2]]])
    keep = torch.ones(1, 4, 4, dtype=torch.bool)
    keep[0, 0, 3] = keep[0, 3, 3] = False
    regions = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    regions[0, 0, 0] = True   # the first row: 0 0 0 (1), three of four kept, all of class 0
    regions[0, 1, :, 3] = True  # the last column: (0 by now, not kept) 1 1 (2)
    found, kept = spread_labels(labels, keep, regions, torch.tensor(0.7), 3)
    want = labels.clone()
    want[0, 0, 3] = 0
    assert torch.equal(found, want)  # half of the column is kept: it does not pass
    assert kept[0, 0, 3] and not kept[0, 3, 3]
    found, kept = spread_labels(labels, keep, regions, torch.tensor(0.5), 3)
    want[0, :, 3] = 1  # now it does, and what is kept of it are the two ones
    assert torch.equal(found, want) and kept.all()


def test_later_regions_see_what_earlier_ones_have_changed():
    """What order decides: the second region's majority is made by the first."""
    labels = torch.tensor([[[0, 0, 0, 1, 1]]])
    keep = torch.ones(1, 1, 5, dtype=torch.bool)
    first, second = torch.zeros(2, 1, 5, dtype=torch.bool)
    first[0, :4] = True  # 0 0 0 1 -> 0
    second[0, 2:] = True  # 0 1 1, then 0 0 1
    regions = torch.stack([first, second])[None]
    found, _ = spread_labels(labels, keep, regions, torch.tensor(0.6), 2)
    assert found.flatten().tolist() == [0, 0, 0, 0, 0]
    found, _ = spread_labels(labels, keep, regions.flip(1), torch.tensor(0.6), 2)
    assert found.flatten().tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize('threshold', [0.0, 0.4, 0.6, 0.9])
def test_random_maps_against_the_loop(threshold):
    changed = 0
    for seed in range(12):
        low = torch.randint(4, (3, 3, 3), generator=gen(seed))
        labels = low.repeat_interleave(4, 1).repeat_interleave(4, 2)
        keep = torch.rand(3, 12, 12, generator=gen(seed + 50)) < 0.8
        centres = torch.randint(12, (3, 9, 2), generator=gen(seed + 99))
        grid = torch.stack(torch.meshgrid(torch.arange(12), torch.arange(12), indexing='ij'))
        regions = (grid - centres[..., None, None]).abs().amax(dim=2) <= 2
        found = spread_labels(labels, keep, regions, torch.tensor(threshold), 4)
        want = spread_by_loop(labels, keep, regions, threshold)
        assert torch.equal(found[0], want[0]) and torch.equal(found[1], want[1])
        changed += int((want[0] != labels).sum())
    assert changed > 0


@pytest.mark.parametrize('kept, passes', [(0, False), (1, True), (2, True)])
def test_regions_that_little_is_kept_of(kept, passes):
    labels = torch.tensor([[[0, 0, 1, 1, 1]]])
    keep = (torch.arange(5) < kept).view(1, 1, 5)
    found, now = spread_labels(labels, keep, torch.ones(1, 1, 1, 5).bool(), torch.tensor(0.2), 2)
    assert found.tolist() == ([[[0] * 5]] if passes else labels.tolist())
    assert torch.equal(now, keep | passes)


def test_a_class_at_the_threshold_does_not_rule():
    labels, every = torch.tensor([[[0, 0, 1, 1]]]), torch.ones(1, 1, 4, dtype=torch.bool)
    found, _ = spread_labels(labels, every, every[None], torch.tensor(0.5), 2)
    assert torch.equal(found, labels)


def test_no_region_passes():
    labels, keep = torch.randint(3, (2, 5, 5)), torch.rand(2, 5, 5) < 0.5
    for regions in (torch.zeros(2, 4, 5, 5).bool(), torch.ones(2, 4, 5, 5).bool()):
        found, kept = spread_labels(labels, keep, regions, torch.tensor(0.99), 3)
        assert torch.equal(found, labels) and torch.equal(kept, keep)


# --------------------------------------------------------------------------------- divergence

def test_divergence_against_a_loop():
    logits, target = rand(2, 4, 3, 3), rand(2, 4, 3, 3, seed=1).softmax(dim=1)
    target[0, :, 0, 0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    keep = torch.rand(2, 3, 3, generator=gen(2)) < 0.6
    valid = torch.rand(2, 3, 3, generator=gen(3)) < 0.8
    total = 0.0
    for n, y, x in (keep & valid).nonzero().tolist():
        z = [math.exp(v) for v in logits[n, :, y, x].tolist()]
        for p, q in zip(target[n, :, y, x].tolist(), (v / sum(z) for v in z)):
            total += p * math.log(p / q) if p > 0 else 0.0
    found = probability_kl(logits, target, keep, valid)
    assert found.item() == pytest.approx(total / int(valid.sum()), rel=1e-12)


def test_divergence_is_zero_where_both_agree_and_nowhere_below():
    logits, every = rand(1, 4, 5, 5).requires_grad_(), torch.ones(1, 5, 5, dtype=torch.bool)
    found = probability_kl(logits, logits.softmax(dim=1), every, every)
    found.backward()
    assert abs(found.item()) < 1e-15 and logits.grad.abs().max() < 1e-15
    assert probability_kl(logits, rand(1, 4, 5, 5, seed=1).softmax(dim=1), every, every) > 0
    alone = torch.zeros_like(every)
    alone[0, 2, 3] = True  # of one pixel the mean is its own
    target = rand(1, 4, 5, 5, seed=1).softmax(dim=1)
    want = (target * (target.log() - logits.log_softmax(dim=1))).sum(dim=1)[0, 2, 3]
    torch.testing.assert_close(probability_kl(logits, target, alone, alone), want)
    nothing = probability_kl(logits, logits.softmax(dim=1), ~every, ~every)
    assert nothing == 0 and nothing.requires_grad


def test_what_no_region_covers_stays():
    """Boxes and padding are taken out of the regions: see CorrMatch's step."""
    labels = torch.randint(3, (2, 6, 7), generator=gen(1))
    keep = torch.rand(2, 6, 7, generator=gen(2)) < 0.6
    outside = torch.rand(2, 6, 7, generator=gen(3)) < 0.4
    regions = (torch.rand(2, 9, 6, 7, generator=gen(4)) < 0.5) & ~outside[:, None]
    found, kept = spread_labels(labels, keep, regions, torch.tensor(0.3), 3)
    assert torch.equal(found[outside], labels[outside])
    assert torch.equal(kept[outside], keep[outside])
    assert not torch.equal(found, labels)
