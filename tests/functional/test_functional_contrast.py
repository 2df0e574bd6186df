"""Pixel-to-part contrast: draws against their definition, the loss against a loop over anchors."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_esl.functional import (
    contrast,
    part_contrast,
    sample_anchors,
    sample_negatives,
    sample_positives,
)

MODES = ['shared', 'independent']


@pytest.fixture(params=[False, True], ids=['reads', 'waits'])
def as_on_any_device(request, monkeypatch):
    """Anchors of nobody are left out where that can be seen without a wait."""
    monkeypatch.setattr('mmseg_esl.functional.contrast.waits_for_reads', lambda _: request.param)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_square_limit(dof, z=3.72):
    """Quantile at p about 1e-4 (Wilson and Hilferty); seeds are fixed, so nothing is flaky."""
    return dof * (1 - 2 / (9 * dof) + z * math.sqrt(2 / (9 * dof))) ** 3


def assert_uniform(counts, variance_share=1.0):
    counts = counts.double().flatten()
    expected = counts.mean()
    chi2 = ((counts - expected) ** 2).sum() / (expected * variance_share)
    dof = len(counts) - 1
    assert expected > 20
    assert chi2 < chi_square_limit(dof)
    assert chi2 > chi_square_limit(dof, -3.72)  # too even would not be random either


# -- anchors --------------------------------------------------------------------------------

def naive_quota(n, fraction, limit=None):
    if n == 0:
        return 0
    quota = min(n, max(1, round(fraction * n)))
    return quota if limit is None else min(quota, limit)


def check_anchors(classes, num_classes, fraction=0.1, limit=None, seed=0):
    index, chosen = sample_anchors(classes, num_classes, fraction=fraction, limit=limit,
                                   generator=gen(seed))
    total = len(classes)
    assert index.shape == chosen.shape == (min(total, int(fraction * total) + num_classes),)
    assert index.dtype == torch.long and chosen.dtype == torch.bool
    assert not index[~chosen].any()
    picked = index[chosen].tolist()
    assert len(set(picked)) == len(picked)
    of_class = [classes[i].item() for i in picked]
    assert all(c >= 0 for c in of_class) and of_class == sorted(of_class)
    for c in range(num_classes):
        n = int((classes == c).sum())
        assert of_class.count(c) == naive_quota(n, fraction, limit)
    return index, chosen


@pytest.mark.parametrize('fraction', [0.1, 0.01, 0.33, 0.5, 0.9, 1.0])
@pytest.mark.parametrize('num_classes', [1, 2, 21, 150])
def test_anchors_meet_exact_quotas(num_classes, fraction):
    for seed, total in enumerate([1, 2, 7, 50, 333, 2000]):
        g = gen(seed)
        present = torch.rand(num_classes, generator=g) < 0.6  # the others are absent
        classes = torch.randint(-1, num_classes, (total,), generator=g)
        classes = torch.where((classes >= 0) & present[classes.clamp(min=0)], classes, -1)
        check_anchors(classes, num_classes, fraction, seed=seed)


def test_anchors_of_every_class_size():
    for n in range(1, 60):
        check_anchors(torch.cat([torch.zeros(n), torch.ones(60 - n)]).long(), 2, seed=n)


def test_anchors_where_every_pixel_is_a_class_of_its_own():
    index, chosen = check_anchors(torch.arange(40), 40)
    assert chosen.all() and torch.equal(index, torch.arange(40))


def test_anchors_without_candidates_or_pixels():
    index, chosen = check_anchors(torch.full((50,), -1), 3)
    assert not chosen.any() and not index.any()
    index, chosen = check_anchors(torch.zeros(0).long(), 3)
    assert len(index) == len(chosen) == 0


def test_anchors_of_one_pixel():
    index, chosen = check_anchors(torch.tensor([1]), 2)
    assert chosen.tolist() == [True] and index.tolist() == [0]
    index, chosen = check_anchors(torch.tensor([-1, -1, 1, -1]), 2)
    assert index[chosen].tolist() == [2]


def test_anchors_limit():
    classes = torch.randint(-1, 4, (1000,), generator=gen())
    for limit in (1, 5, 20, 10**6):
        check_anchors(classes, 4, limit=limit)
    none = sample_anchors(classes, 4, generator=gen(1))
    vast = sample_anchors(classes, 4, limit=10**6, generator=gen(1))
    assert torch.equal(none[0], vast[0])


@pytest.mark.parametrize('fraction', [0, -0.1, 1.01, float('nan')])
def test_anchors_refuse_fraction(fraction):
    with pytest.raises(ValueError, match='fraction'):
        sample_anchors(torch.zeros(3).long(), 2, fraction=fraction)


def test_anchors_are_uniform_within_their_class():
    classes = torch.cat([torch.zeros(20), torch.ones(40), -torch.ones(20)]).long()
    classes = classes[torch.randperm(80, generator=gen(9))]
    hits, pairs, g = torch.zeros(80), torch.zeros(80, 80), gen(1)
    for _ in range(2500):
        index, chosen = sample_anchors(classes, 2, generator=g)
        picked = index[chosen]
        hits[picked] += 1
        a, b = picked[:2].tolist()  # both of class 0: its quota is 2
        pairs[a, b] += 1
    assert not hits[classes < 0].any()
    for c, n, quota in ((0, 20, 2), (1, 40, 4)):
        mine = hits[classes == c]
        assert mine.sum() == 2500 * quota
        # Without replacement the variance of a count is E (1 - quota / n) n / (n - 1).
        assert_uniform(mine, (1 - quota / n) * n / (n - 1))
    together = (pairs + pairs.T)[classes == 0][:, classes == 0]
    off_diagonal = together[torch.triu(torch.ones(20, 20), 1).bool()]
    assert off_diagonal.min() > 0  # every pair occurs: draws within a class are not tied
    chi2 = ((off_diagonal - 2500 / 190) ** 2).sum() / (2500 / 190)
    assert chi2 < chi_square_limit(189)


def test_anchors_repeat_with_the_seed():
    classes = torch.randint(0, 3, (500,), generator=gen())
    a, b, c = (sample_anchors(classes, 3, generator=gen(s))[0] for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


# -- positives and negatives ----------------------------------------------------------------

FILLED = torch.tensor([4, 0, 1, 3, 0, 8])


def test_positives_are_filled_slots_of_the_own_queue():
    parts = torch.arange(6).repeat_interleave(4000)
    slot, exists = sample_positives(FILLED, parts, generator=gen())
    assert slot.shape == exists.shape == parts.shape and slot.dtype == torch.long
    assert torch.equal(exists, FILLED[parts] > 0)
    assert (slot >= 0).all() and (slot < FILLED[parts].clamp(min=1)).all()
    for part, filled in enumerate(FILLED.tolist()):
        if filled > 1:
            assert_uniform(torch.bincount(slot[parts == part], minlength=filled))


def test_negatives_are_uniform_over_the_filled_slots_of_all_other_queues():
    num = 30000
    part, slot, exists = sample_negatives(FILLED, torch.arange(6), num, generator=gen())
    assert part.shape == slot.shape == (6, num) and part.dtype == slot.dtype == torch.long
    assert exists.tolist() == [True] * 6
    assert (slot >= 0).all() and (slot < FILLED[part]).all()  # hence no empty queue either
    for own in range(6):
        assert not (part[own] == own).any()
        counts = torch.bincount(part[own] * 8 + slot[own], minlength=48).view(6, 8)
        others = [counts[p, s] for p in range(6) if p != own for s in range(FILLED[p])]
        assert sum(others) == num
        assert_uniform(torch.stack(others))


def test_negatives_have_replacement_and_default_to_255():
    part, slot, exists = sample_negatives(torch.tensor([2, 1]), torch.tensor([0, 1, 1]))
    assert part.shape == slot.shape == (3, 255) and exists.all()
    assert (part[0] == 1).all() and (slot[0] == 0).all()
    assert (part[1:] == 0).all() and sorted(slot[1].unique().tolist()) == [0, 1]
    assert not torch.equal(slot[1], slot[2])  # each row is drawn for itself


def test_negatives_of_one_class_come_from_its_other_parts():
    filled = torch.tensor([3, 3, 0, 0])  # two classes of two parts, the second never seen
    part, _, exists = sample_negatives(filled, torch.tensor([0, 1]), 50, generator=gen())
    assert exists.all() and (part[0] == 1).all() and (part[1] == 0).all()


def test_negatives_of_large_queues_reach_both_ends():
    filled = torch.full((105,), 256)
    part, slot, _ = sample_negatives(filled, torch.tensor([0, 52, 104]), 200000, generator=gen())
    for row, own in enumerate((0, 52, 104)):
        others = [p for p in range(105) if p != own]
        assert part[row].unique().tolist() == others
        assert slot[row].unique().tolist() == list(range(256))
        counts = torch.bincount(part[row], minlength=105)
        assert_uniform(counts[others])


@pytest.mark.parametrize('filled', [
    [0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 4], [0, 0, 3], [1, 0, 0], [0, 0, 1]])
def test_draws_stay_within_bounds_where_there_is_nothing_to_draw(filled):
    """Queues of S = 4 slots: whatever exists says, the numbers may be used as indices."""
    filled = torch.tensor(filled)
    for seed in range(5):
        part, slot, exists = sample_negatives(filled, torch.arange(3), 20, generator=gen(seed))
        assert exists.tolist() == [bool(filled.sum() - filled[p] > 0) for p in range(3)]
        assert (part >= 0).all() and (part < 3).all()
        assert (slot >= 0).all() and (slot < 4).all()
        real = exists[:, None].expand_as(part)
        assert (slot[real] < filled[part[real]]).all()
        slot, has = sample_positives(filled, torch.arange(3), generator=gen(seed))
        assert torch.equal(has, filled > 0) and (slot < filled.clamp(min=1)).all()


@pytest.mark.parametrize('mode', MODES)
def test_contrast_where_only_the_last_queue_is_filled_to_the_brim(mode):
    emb = torch.randn(4, 3, requires_grad=True, generator=gen())
    loss, used = part_contrast(emb, torch.tensor([0, 1, 1, 1]), torch.tensor([0, 2, 2, 1]),
                               torch.ones(4).bool(), torch.randn(3, 4, 3, generator=gen(1)),
                               torch.tensor([0, 0, 4]), 2, negatives=mode, generator=gen())
    loss.backward()
    assert loss.item() == 0 and used.tolist() == [0, 0] and not emb.grad.any()


def test_negatives_lot_by_lot():
    parts = torch.tensor([0, 3, 1, 5, 5])
    part, slot, _ = sample_negatives(FILLED, parts, 40, generator=gen(2))
    lots = torch.rand(5, 40, dtype=torch.float64, generator=gen(2)).tolist()
    for row, own in enumerate(parts.tolist()):
        others = [(p, s) for p, n in enumerate(FILLED.tolist()) if p != own for s in range(n)]
        wanted = [others[int(lot * len(others))] for lot in lots[row]]
        assert list(zip(part[row].tolist(), slot[row].tolist())) == wanted


def test_lots_are_doubles_of_the_generator():
    """Single precision has too few values for an image's pixels."""
    classes, parts = torch.randint(-1, 3, (500,), generator=gen(1)), torch.arange(6).repeat(50)
    keys = torch.rand(500, dtype=torch.float64, generator=gen(2))
    for a, b in zip(sample_anchors(classes, 3, generator=gen(2)),
                    sample_anchors(classes, 3, keys=keys)):
        assert torch.equal(a, b)
    draw = torch.rand(300, dtype=torch.float64, generator=gen(2))
    assert torch.equal(sample_positives(FILLED, parts, generator=gen(2))[0],
                       sample_positives(FILLED, parts, draw=draw)[0])


# -- the loss -------------------------------------------------------------------------------

def bank(num_classes=4, num_parts=3, slots=6, width=8, seed=0, empty=(), full=False):
    g = gen(seed)
    num = num_classes * num_parts
    filled = torch.full((num,), slots) if full else torch.randint(1, slots + 1, (num,), generator=g)
    filled[list(empty)] = 0
    queue = torch.randn(num, slots, width, generator=g, dtype=torch.float64)
    used = torch.arange(slots) < filled[:, None]
    return torch.where(used[..., None], queue, 1e3), filled  # what is not filled must not count


def anchors(total=40, num_classes=4, num_parts=3, width=8, seed=1, keep=0.8):
    g = gen(seed)
    emb = torch.randn(total, width, generator=g, dtype=torch.float64)
    parts = torch.randint(0, num_classes * num_parts, (total,), generator=g)
    return emb, parts // num_parts, parts, torch.rand(total, generator=g) < keep


def unit(vector):
    norm = math.sqrt(sum(v * v for v in vector))
    return [v / norm for v in vector]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def naive_contrast(emb, classes, parts, chosen, queue, filled, num_classes, num, temperature, mode,
                   seed):
    """InfoNCE anchor by anchor, with the entries that the same generator draws."""
    g = gen(seed)
    safe = torch.where(chosen, parts, 0)
    pos, _ = sample_positives(filled, safe, generator=g)
    owners = safe if mode == 'independent' else torch.arange(len(filled))
    neg_part, neg_slot, _ = sample_negatives(filled, owners, num, generator=g)
    losses = [[] for _ in range(num_classes)]
    for a in range(len(emb)):
        part = parts[a].item()
        others = sum(n for p, n in enumerate(filled.tolist()) if p != part)
        if not chosen[a] or filled[part] == 0 or others == 0:
            continue
        z = unit(emb[a].tolist())
        row = a if mode == 'independent' else part
        positive = math.exp(dot(z, unit(queue[part, pos[a]].tolist())) / temperature)
        negative = sum(math.exp(dot(z, unit(queue[p, s].tolist())) / temperature)
                       for p, s in zip(neg_part[row].tolist(), neg_slot[row].tolist()))
        losses[classes[a]].append(-math.log(positive / (positive + negative)))
    means = [sum(x) / len(x) if x else 0.0 for x in losses]
    return sum(means) / num_classes, [len(x) for x in losses]


@pytest.mark.usefixtures('as_on_any_device')
@pytest.mark.parametrize('temperature', [0.5, 0.1, 2.0])
@pytest.mark.parametrize('empty', [(), (0, 4), (3, 4, 5)])
@pytest.mark.parametrize('mode', MODES)
def test_contrast_equals_naive(mode, empty, temperature):
    queue, filled = bank(empty=empty)
    data = anchors()
    loss, used = part_contrast(*data, queue, filled, 4, num_negatives=9, temperature=temperature,
                               negatives=mode, generator=gen(3))
    want, want_used = naive_contrast(*data, queue, filled, 4, 9, temperature, mode, 3)
    assert loss.item() == pytest.approx(want, rel=1e-7)
    assert used.tolist() == want_used and used.dtype == torch.long


@pytest.mark.usefixtures('as_on_any_device')
@pytest.mark.parametrize('total, skew', [(1, False), (17, True), (300, False), (300, True)])
@pytest.mark.parametrize('mode', MODES)
def test_contrast_equals_naive_for_ragged_groups(mode, total, skew):
    """Groups of very different size: more anchors than one block of either mode holds."""
    queue, filled = bank(width=4)
    emb, classes, parts, chosen = anchors(total, width=4, keep=0.9)
    if skew:  # nearly all belong to one part
        parts = torch.where(torch.arange(total) % 10 > 0, 7, parts)
        classes = parts // 3
    loss, used = part_contrast(emb, classes, parts, chosen, queue, filled, 4, num_negatives=5,
                               negatives=mode, generator=gen(4))
    want, want_used = naive_contrast(emb, classes, parts, chosen, queue, filled, 4, 5, 0.5, mode, 4)
    assert loss.item() == pytest.approx(want, rel=1e-7) and used.tolist() == want_used


@pytest.mark.parametrize('mode', MODES)
def test_contrast_defaults_are_the_papers(mode):
    queue, filled = bank()
    data = anchors(12)
    loss, _ = part_contrast(*data, queue, filled, 4, negatives=mode, generator=gen(3))
    want, _ = naive_contrast(*data, queue, filled, 4, 255, 0.5, mode, 3)
    assert loss.item() == pytest.approx(want, rel=1e-7)


def test_shared_is_the_default():
    queue, filled = bank()
    data = anchors()
    default = part_contrast(*data, queue, filled, 4, generator=gen(3))[0]
    assert default == part_contrast(*data, queue, filled, 4, negatives='shared',
                                    generator=gen(3))[0]


@pytest.mark.parametrize('mode', MODES)
def test_contrast_gradcheck(mode):
    queue, filled = bank(empty=(2,), width=3)
    emb, classes, parts, chosen = anchors(9, width=3)
    assert 0 < chosen.sum() < 9
    assert torch.autograd.gradcheck(
        lambda e: part_contrast(e, classes, parts, chosen, queue, filled, 4, num_negatives=6,
                                negatives=mode, generator=gen(5))[0], emb.requires_grad_())


@pytest.mark.usefixtures('as_on_any_device')
@pytest.mark.parametrize('cells', [1, 100, 2 ** 13])  # one group of anchors at a time, some, all
@pytest.mark.parametrize('mode', MODES)
def test_gradient_of_many_blocks_is_that_of_the_naive_expression(mode, cells, monkeypatch):
    monkeypatch.setattr(contrast.SumOverBlocks, 'CELLS', cells)
    queue, filled = bank(width=4)
    emb, classes, parts, chosen = anchors(300, width=4)
    emb.requires_grad_()
    loss, _ = part_contrast(emb, classes, parts, chosen, queue, filled, 4, num_negatives=5,
                            negatives=mode, generator=gen(4))
    got, = torch.autograd.grad(loss, emb)
    g = gen(4)
    safe = torch.where(chosen, parts, 0)
    pos, _ = sample_positives(filled, safe, generator=g)
    owners = safe if mode == 'independent' else torch.arange(12)
    neg_part, neg_slot, _ = sample_negatives(filled, owners, 5, generator=g)
    total = 0
    for c in range(4):
        mine = [a for a in range(300) if chosen[a] and classes[a] == c]
        for a in mine:
            row = a if mode == 'independent' else int(parts[a])
            keys = torch.cat([queue[parts[a], pos[a]][None], queue[neg_part[row], neg_slot[row]]])
            logits = F.cosine_similarity(emb[a][None], keys) / 0.5
            total = total + F.cross_entropy(logits[None], torch.tensor([0])) / len(mine) / 4
    want, = torch.autograd.grad(total, emb)
    torch.testing.assert_close(loss.detach(), total.detach())
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize('mode', MODES)
def test_classes_without_anchors_count_in_the_mean(mode):
    queue, filled = bank()
    emb, _, _, chosen = anchors(20, keep=1.0)
    parts = torch.full((20,), 4)
    few, _ = part_contrast(emb, parts // 3, parts, chosen, queue, filled, 4, negatives=mode,
                           generator=gen())
    many, used = part_contrast(emb, parts // 3, parts, chosen, queue, filled, 40, negatives=mode,
                               generator=gen())
    assert few.item() == pytest.approx(10 * many.item(), rel=1e-12) and few > 0
    assert used.shape == (40,) and used[1] == 20 and used.sum() == 20


@pytest.mark.parametrize('mode', MODES)
def test_each_class_weighs_the_same_whatever_its_number_of_anchors(mode):
    queue, filled = bank(num_classes=2, slots=1)  # one slot: the positive is no matter of chance
    emb = torch.randn(2, 8, generator=gen(), dtype=torch.float64)
    data = [torch.cat([emb[:1], emb[1:].expand(30, -1)]).requires_grad_(),
            torch.tensor([0] + [1] * 30), torch.tensor([0] + [3] * 30), torch.ones(31).bool()]
    loss, used = part_contrast(*data, queue, filled, 2, negatives=mode, generator=gen(),
                               num_negatives=4000)
    loss.backward()
    alone = [part_contrast(data[0][i], data[1][i], data[2][i], data[3][i], queue, filled, 2,
                           negatives=mode, generator=gen(1), num_negatives=4000)[0]
             for i in (slice(0, 1), slice(1, 31))]
    assert loss.item() == pytest.approx(sum(alone).item(), rel=0.02)
    assert used.tolist() == [1, 30]
    want, _ = naive_contrast(*[d.detach() for d in data], queue, filled, 2, 4000, 0.5, mode, 0)
    assert loss.item() == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize('mode', MODES)
def test_anchors_with_an_empty_positive_queue_are_skipped(mode):
    queue, filled = bank(empty=(0, 1, 2))
    emb, classes, parts, chosen = anchors(60, keep=1.0)
    emb.requires_grad_()
    loss, used = part_contrast(emb, classes, parts, chosen, queue, filled, 4, negatives=mode,
                               generator=gen())
    loss.backward()
    assert used.tolist() == [0] + [int((classes == c).sum()) for c in (1, 2, 3)]
    assert not emb.grad[classes == 0].any()
    assert emb.grad[classes != 0].any(dim=1).all()


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('why', ['none chosen', 'queues empty', 'own queue only', 'no pixels'])
def test_nothing_to_contrast_is_a_connected_zero(why, mode):
    queue, filled = bank()
    emb, classes, parts, chosen = anchors(0 if why == 'no pixels' else 20, keep=1.0)
    if why == 'none chosen':
        chosen = ~chosen
    elif why == 'queues empty':
        filled = torch.zeros_like(filled)
    elif why == 'own queue only':
        parts = torch.full((20,), 4)
        classes = parts // 3
        filled = torch.where(torch.arange(12) == 4, filled, 0)
    emb.requires_grad_()
    loss, used = part_contrast(emb, classes, parts, chosen, queue, filled, 4, negatives=mode,
                               generator=gen())
    assert loss.shape == () and loss.item() == 0 and not used.any() and loss.requires_grad
    loss.backward()
    assert torch.equal(emb.grad, torch.zeros_like(emb))


@pytest.mark.parametrize('junk', [1e30, float('inf'), float('nan')])
@pytest.mark.parametrize('mode', MODES)
def test_slots_that_are_not_chosen_do_not_matter(mode, junk):
    queue, filled = bank()
    emb, classes, parts, chosen = anchors()
    want = emb.clone().requires_grad_()
    loss, used = part_contrast(want, classes, parts, chosen, queue, filled, 4, negatives=mode,
                               generator=gen(6))
    loss.backward()
    other = torch.where(chosen[:, None], emb, junk).requires_grad_()
    same, same_used = part_contrast(
        other, torch.where(chosen, classes, -1), torch.where(chosen, parts, -1), chosen, queue,
        filled, 4, negatives=mode, generator=gen(6))
    same.backward()
    torch.testing.assert_close(same, loss)
    assert torch.equal(same_used, used)
    torch.testing.assert_close(other.grad, want.grad)


@pytest.mark.parametrize('num_parts', [1, 5])
@pytest.mark.parametrize('mode', MODES)
def test_two_classes_work(mode, num_parts):
    queue, filled = bank(2, num_parts)
    emb, classes, parts, chosen = anchors(30, 2, num_parts)
    emb.requires_grad_()
    loss, used = part_contrast(emb, classes, parts, chosen, queue, filled, 2, negatives=mode,
                               num_negatives=20, generator=gen(7))
    loss.backward()
    want, _ = naive_contrast(emb.detach(), classes, parts, chosen, queue, filled, 2, 20, 0.5, mode,
                             7)
    assert loss.item() == pytest.approx(want, rel=1e-7) and loss > 1 and (used > 0).all()
    assert emb.grad[chosen].any(dim=1).all()


@pytest.mark.parametrize('mode', MODES)
def test_only_directions_matter(mode):
    queue, filled = bank()
    emb, classes, parts, chosen = anchors()
    loss, _ = part_contrast(emb, classes, parts, chosen, queue, filled, 4, negatives=mode,
                            generator=gen())
    scaled, _ = part_contrast(7 * emb, classes, parts, chosen, queue / 3, filled, 4,
                              negatives=mode, generator=gen())
    torch.testing.assert_close(scaled, loss)


@pytest.mark.parametrize('mode', MODES)
def test_descending_the_loss_brings_anchors_to_their_part(mode):
    queue, filled = bank(2, 2, width=16, full=True)
    queue = (queue[:, :1] + 0.1 * queue).detach()
    emb, classes, parts, chosen = anchors(24, 2, 2, width=16, keep=1.0)
    emb.requires_grad_()
    g, values = gen(), []
    for _ in range(60):
        loss, _ = part_contrast(emb, classes, parts, chosen, queue, filled, 2, negatives=mode,
                                num_negatives=32, generator=g)
        grad, = torch.autograd.grad(loss, emb)
        emb = (emb - 20 * grad).detach().requires_grad_()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.5
    centres = F.normalize(queue.mean(1), dim=1)
    nearest = (F.normalize(emb, dim=1) @ centres.T).argmax(1)
    assert torch.equal(nearest, parts)


@pytest.mark.parametrize('mode', MODES)
def test_anchors_of_length_zero_stay_finite(mode):
    """A projector that ends in a ReLU can return them."""
    queue, filled = bank()
    emb, classes, parts, chosen = anchors()
    emb = (emb * (torch.arange(40) % 3 > 0)[:, None]).float().requires_grad_()
    loss, _ = part_contrast(emb, classes, parts, chosen, queue.float(), filled, 4, negatives=mode,
                            generator=gen())
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(emb.grad).all()
    assert emb.grad.abs().max() <= 2 / 0.5 / 1e-6  # as of a length of 1e-6: others are not drowned


@pytest.mark.parametrize('mode', MODES)
def test_short_anchors_count_by_their_direction(mode):
    queue, filled = bank()
    emb, *rest = anchors()
    want, found = (part_contrast(x, *rest, queue, filled, 4, negatives=mode, generator=gen())[0]
                   for x in (emb, 1e-5 * emb))
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize('mode', MODES)
def test_lots_of_the_positives_may_be_given(mode):
    queue, filled = bank(full=True)
    data, state = anchors(), gen(3)
    lots = torch.rand(40, dtype=torch.float64, generator=state)  # what would be drawn first
    want, _ = naive_contrast(*data, queue, filled, 4, 9, 0.5, mode, 3)
    found, _ = part_contrast(*data, queue, filled, 4, num_negatives=9, negatives=mode,
                             positive_draw=lots, generator=state)
    assert found.item() == pytest.approx(want, rel=1e-7)


def test_forty_parts_of_one_anchor_less_than_a_group():
    queue, filled = bank(40, 1, slots=2, width=3)
    parts = torch.arange(600) % 40
    data = torch.randn(600, 3, generator=gen(), dtype=torch.float64), parts, parts, parts >= 0
    found, used = part_contrast(*data, queue, filled, 40, num_negatives=2, generator=gen(3))
    want, _ = naive_contrast(*data, queue, filled, 40, 2, 0.5, 'shared', 3)
    assert found.item() == pytest.approx(want, rel=1e-7) and (used == 15).all()


@pytest.mark.parametrize('total, size', [(40, 16), (480, 40), (481, 41), (5000, 64)])
def test_groups_are_as_large_as_the_mean_part_within_bounds(total, size):
    parts = torch.arange(total) % 12
    (index, owner, _), _ = contrast._shared_blocks(parts, parts >= 0, torch.full((12,), 3), 5, None)
    assert index.shape == (total // size + 12, size)
    for part, row in zip(owner, index):
        assert (parts[row[row < total]] == part).all()
    assert sorted(index[index < total].tolist()) == list(range(total))


@pytest.mark.parametrize('cells, pieces', [(100, [10, 10, 5]), (1, [1] * 25)])
def test_pieces_hold_no_more_than_the_cells(cells, pieces, monkeypatch):
    assert contrast.SumOverBlocks.CELLS * 512 * 4 == 16 * 2 ** 20
    monkeypatch.setattr(contrast.SumOverBlocks, 'CELLS', cells)
    seen, index = [], torch.arange(30).clamp(max=25)[:, None]  # the last five are nobody's

    def loss_of(anchors, block, own):
        seen.append(len(block))
        return anchors.sum()

    loss = contrast.SumOverBlocks.apply(torch.ones(25, 2), loss_of, index, index[:, 0], 9)
    assert loss == 50 and seen == pieces


def test_a_gpu_has_fewer_and_larger_pieces(monkeypatch):
    monkeypatch.setattr(contrast, 'waits_for_reads', lambda device: True)
    monkeypatch.setattr(contrast.SumOverBlocks, 'CELLS', 100)
    seen, index = [], torch.arange(100)[:, None]

    def loss_of(anchors, block, own):
        seen.append(len(block))
        return anchors.sum()

    assert contrast.SumOverBlocks.apply(torch.ones(100, 2), loss_of, index, index[:, 0], 9) == 200
    assert seen == [80, 20]


def test_only_a_cpu_is_read_without_a_wait():
    assert not contrast.waits_for_reads(torch.device('cpu'))
    assert contrast.waits_for_reads(torch.device('cuda'))


def test_contrast_refuses_bad_options():
    queue, filled = bank()
    data = anchors()
    for temperature in (0, -1.0):
        with pytest.raises(ValueError, match='temperature'):
            part_contrast(*data, queue, filled, 4, temperature=temperature)
    with pytest.raises(ValueError, match="'shared' or 'independent', got 'all'"):
        part_contrast(*data, queue, filled, 4, negatives='all')


# -- the two kinds of negatives -------------------------------------------------------------

def moments(mode, draws, num, data, queue, filled):
    """Mean and standard error, over draws, of the loss and of every entry of its gradient."""
    g, rows = gen(11), []
    emb = data[0].clone().requires_grad_()
    for _ in range(draws):
        loss, _ = part_contrast(emb, *data[1:], queue, filled, 2, num_negatives=num,
                                negatives=mode, generator=g)
        grad, = torch.autograd.grad(loss, emb)
        rows.append(torch.cat([loss.detach().view(1), grad.flatten()]))
    rows = torch.stack(rows)
    return rows.mean(0), rows.std(0) / math.sqrt(draws)


def exact_loss(data, queue, filled):
    """Expectation for one negative: every positive with every entry of every other queue."""
    emb, classes, parts, chosen = data
    by_class = [[], []]
    for a in range(len(emb)):
        if not chosen[a]:
            continue
        score = F.cosine_similarity(emb[a][None, None], queue, dim=2) / 0.5
        pos = score[parts[a], :filled[parts[a]]]
        neg = torch.cat([score[p, :filled[p]] for p in range(len(filled)) if p != parts[a]])
        by_class[classes[a]].append(F.softplus(neg[None] - pos[:, None]).mean())
    return sum(torch.stack(x).mean() for x in by_class) / 2


def test_shared_and_independent_negatives_agree_in_mean():
    """4.5 standard errors of a fixed-seed difference, for the loss and each gradient entry; the
    errors themselves are small enough that a bias of 3 % of the loss would be seen."""
    queue, filled = bank(2, 3, width=4)
    data = anchors(14, 2, 3, width=4)
    shared, shared_error = moments('shared', 1200, 3, data, queue, filled)
    alone, alone_error = moments('independent', 1200, 3, data, queue, filled)
    error = (shared_error ** 2 + alone_error ** 2).sqrt()
    assert 4.5 * error[0] < 0.03 * alone[0]
    assert ((shared - alone).abs() <= 4.5 * error).all()
    used = error[1:].view(14, 4)[data[3]]
    gradient = alone[1:].view(14, 4)[data[3]]
    assert used.norm() < 0.1 * gradient.norm()
    assert shared_error[0] > alone_error[0]  # what sharing costs: variance, not bias


@pytest.mark.parametrize('mode', MODES)
def test_one_negative_has_the_exact_expectation(mode):
    queue, filled = bank(2, 3, width=4)
    data = anchors(14, 2, 3, width=4)
    emb = data[0].clone().requires_grad_()
    exact = exact_loss((emb, *data[1:]), queue, filled)
    grad, = torch.autograd.grad(exact, emb)
    want = torch.cat([exact.detach().view(1), grad.flatten()])
    mean, error = moments(mode, 1000, 1, data, queue, filled)
    assert 4.5 * error[0] < 0.05 * want[0]
    assert ((mean - want).abs() <= 4.5 * error).all()


@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5),
       st.integers(1, 6), st.sampled_from([0.05, 0.5]), st.sampled_from(MODES),
       st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_bank_gives_finite_losses_and_gradients(total, num_classes, num_parts, slots, num,
                                                    temperature, mode, seed):
    g = gen(seed)
    queues = num_classes * num_parts
    filled = torch.randint(0, slots, (queues,), generator=g)
    queue = torch.randn(queues, slots, 3, generator=g)
    emb = torch.randn(total, 3, generator=g).requires_grad_()
    parts = torch.randint(0, queues, (total,), generator=g)
    chosen = torch.rand(total, generator=g) < 0.7
    loss, used = part_contrast(emb, parts // num_parts, parts, chosen, queue, filled, num_classes,
                               num_negatives=num, temperature=temperature, negatives=mode,
                               generator=g)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0 and torch.isfinite(emb.grad).all()
    others = filled.sum() - filled[parts]
    assert used.sum() == (chosen & (filled[parts] > 0) & (others > 0)).sum()


def test_given_lots_decide():
    """The smallest lots of each class win; a positive's slot is its lot's share of the queue."""
    gen = torch.Generator().manual_seed(3)
    classes = torch.randint(-1, 3, (50,), generator=gen)
    keys = torch.rand(50, dtype=torch.float64, generator=gen)
    index, chosen = sample_anchors(classes, 3, fraction=0.3, keys=keys)
    want = set()
    for c in range(3):
        own = sorted((float(keys[i]), i) for i in range(50) if classes[i] == c)
        want |= {i for _, i in own[:max(1, round(0.3 * len(own)))]}
    assert set(index[chosen].tolist()) == want
    filled, parts = torch.tensor([4, 0, 7]), torch.tensor([0, 1, 2, 2])
    draw = torch.tensor([0.51, 0.9, 0.0, 0.99], dtype=torch.float64)
    slot, exists = sample_positives(filled, parts, draw=draw)
    assert slot.tolist() == [2, 0, 0, 6] and exists.tolist() == [True, False, True, True]
