"""Part grouping, against loops over pixels of features that were resized first."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_esl.functional import (
    assign_parts,
    nearest,
    part_seeds,
    part_sums,
    sample_features,
    update_prototypes,
)

# (h', w') of the features, (h, w) of the label map: identity, up, down, odd, one pixel
GRIDS = [((5, 6), (5, 6)), ((3, 4), (9, 11)), ((4, 4), (4, 9)), ((1, 1), (3, 5)), ((9, 7), (4, 3)),
         ((3, 3), (1, 1)), ((1, 4), (1, 9))]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def resized(features, size, align_corners):
    if features.shape[-2:] == torch.Size(size):
        return features
    return F.interpolate(features, size=size, mode='bilinear', align_corners=align_corners)


def case(source, target, num_classes=4, num_parts=3, width=6, batch=2, seed=0):
    g = gen(seed)
    features = torch.randn(batch, width, *source, generator=g, dtype=torch.float64)
    labels = torch.randint(-1, num_classes + 1, (batch, *target), generator=g)
    labels = torch.where(labels == num_classes, 255, labels)
    scale = 10 * torch.rand(num_classes, num_parts, 1, generator=g, dtype=torch.float64) + 0.1
    prototypes = torch.randn(num_classes, num_parts, width, generator=g, dtype=torch.float64)
    return features, labels, scale * prototypes


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def naive_assign(features, labels, prototypes):
    """k* = the prototype of the pixel's own class with the highest cosine; equal resolutions."""
    num_classes, num_parts, _ = prototypes.shape
    protos = prototypes.tolist()
    out = torch.full_like(labels, -1)
    for b in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                c = labels[b, y, x].item()
                if 0 <= c < num_classes:
                    f = features[b, :, y, x].tolist()
                    scores = [cosine(f, p) for p in protos[c]]
                    out[b, y, x] = c * num_parts + scores.index(max(scores))
    return out


# -- assignment -----------------------------------------------------------------------------

@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('source, target', GRIDS)
def test_assign_equals_resizing_features_first(source, target, align_corners):
    features, labels, prototypes = case(source, target)
    got = assign_parts(features, labels, prototypes, align_corners=align_corners)
    want = naive_assign(resized(features, target, align_corners), labels, prototypes)
    assert got.dtype == torch.long and torch.equal(got, want)


@pytest.mark.parametrize('num_classes, num_parts', [(2, 1), (2, 5), (1, 3), (21, 1), (21, 5)])
def test_assign_for_any_number_of_classes_and_parts(num_classes, num_parts):
    features, labels, prototypes = case((6, 5), (12, 11), num_classes, num_parts)
    got = assign_parts(features, labels, prototypes)
    assert torch.equal(got, naive_assign(resized(features, (12, 11), False), labels, prototypes))
    known = (labels >= 0) & (labels < num_classes)
    assert ((got == -1) == ~known).all() and got.max() < num_classes * num_parts
    assert torch.equal(got[known] // num_parts, labels[known])  # a part is one of the own class
    if num_parts == 1:
        assert torch.equal(got, torch.where(known, labels, -1))


def test_assign_gives_no_part_to_pixels_without_a_class():
    features, _, prototypes = case((3, 3), (3, 3))
    for label in (255, -1, 4, 10**6, -100):
        assert (assign_parts(features, torch.full((2, 3, 3), label), prototypes) == -1).all()


def test_assign_is_blind_to_the_length_of_prototypes_and_features():
    features, labels, prototypes = case((6, 6), (6, 6))
    want = assign_parts(features, labels, prototypes)
    scaled = prototypes * (torch.rand(4, 3, 1, generator=gen(1)) * 100 + 1e-3)
    assert torch.equal(assign_parts(features, labels, scaled), want)
    lengths = torch.rand(2, 1, 6, 6, generator=gen(2)) * 100 + 1e-3
    assert torch.equal(assign_parts(features * lengths, labels, prototypes), want)


def test_assign_follows_the_cosine_and_not_the_distance():
    prototypes = torch.tensor([[[10.0, 0.0], [0.6, 0.8]]])  # the second is nearer to (1, 0.2)
    features = torch.tensor([1.0, 0.2]).view(1, 2, 1, 1)
    assert assign_parts(features, torch.zeros(1, 1, 1).long(), prototypes).item() == 0


@pytest.mark.parametrize('source, target', [((6, 5), (6, 5)), ((6, 5), (12, 11))])
def test_assign_chooses_among_the_parts_of_the_mask(source, target):
    features, labels, prototypes = case(source, target)
    mask = torch.tensor([[True, True, True], [False, True, False], [True, False, True],
                         [False, False, True]])
    got = assign_parts(features, labels, prototypes, mask=mask)
    fine = resized(features, target, False)
    for c in range(4):  # as if the class had these prototypes alone
        own = torch.where(labels == c, 0, -1)
        alone = naive_assign(fine, own, prototypes[c:c + 1, mask[c]])
        numbers = mask[c].nonzero()[:, 0] + 3 * c
        assert torch.equal(got[labels == c], numbers[alone[labels == c]])
    everything = assign_parts(features, labels, prototypes, mask=torch.ones_like(mask))
    assert torch.equal(everything, assign_parts(features, labels, prototypes))


def test_assign_refuses_another_width():
    features, labels, prototypes = case((3, 3), (3, 3))
    with pytest.raises(ValueError, match='features have 5 channels, prototypes 6'):
        assign_parts(features[:, :5], labels, prototypes)


# -- masked sums ----------------------------------------------------------------------------

def naive_sums(features, parts, num):
    """Equal resolutions: mu = sums / counts."""
    sums = features.new_zeros(len(features), num, features.shape[1])
    counts = features.new_zeros(len(features), num)
    for b in range(parts.shape[0]):
        for y in range(parts.shape[1]):
            for x in range(parts.shape[2]):
                k = parts[b, y, x].item()
                if k >= 0:
                    sums[b, k] += features[b, :, y, x]
                    counts[b, k] += 1
    return sums, counts


def some_parts(target, num=12, batch=2, seed=3):
    parts = torch.randint(-1, num, (batch, *target), generator=gen(seed))
    return torch.where(parts == 5, -1, parts)  # part 5 is absent


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('source, target', GRIDS)
def test_sums_equal_naive_over_resized_features(source, target, align_corners):
    features, _, _ = case(source, target)
    parts = some_parts(target)
    sums, counts = part_sums(features, parts, 12, align_corners=align_corners)
    want, want_counts = naive_sums(resized(features, target, align_corners), parts, 12)
    assert sums.shape == (2, 12, 6) and counts.shape == (2, 12)
    torch.testing.assert_close(sums, want)
    assert torch.equal(counts, want_counts)
    assert not sums[:, 5].any() and not counts[:, 5].any()  # absent: exactly zero
    assert counts.sum() == (parts >= 0).sum()


def test_sums_over_the_true_cosine_parts_average_to_the_part_features():
    features, labels, prototypes = case((4, 5), (12, 15))
    parts = assign_parts(features, labels, prototypes)
    sums, counts = part_sums(features, parts, 12)
    big = resized(features, (12, 15), False)
    for b in range(2):
        for k in range(12):
            inside = parts[b] == k
            if inside.any():
                torch.testing.assert_close(sums[b, k] / counts[b, k],
                                           big[b][:, inside].mean(dim=1))


def test_sums_without_any_part():
    sums, counts = part_sums(torch.randn(2, 3, 4, 4), torch.full((2, 8, 8), -1), 6)
    assert not sums.any() and not counts.any()


def test_sums_do_not_mix_images():
    features, _, _ = case((3, 4), (6, 8))
    parts = some_parts((6, 8))
    both, _ = part_sums(features, parts, 12)
    for b in range(2):
        one, _ = part_sums(features[b:b + 1], parts[b:b + 1], 12)
        torch.testing.assert_close(both[b:b + 1], one)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('source, target', [((3, 2), (3, 2)), ((2, 3), (5, 4))])
def test_sums_gradcheck(source, target, align_corners):
    features = case(source, target, width=2)[0].requires_grad_()
    parts = some_parts(target, num=4)
    assert torch.autograd.gradcheck(
        lambda f: part_sums(f, parts, 4, align_corners=align_corners)[0], features)


def test_sums_keep_the_dtype():
    for dtype in (torch.float32, torch.float64):
        sums, counts = part_sums(torch.randn(1, 2, 3, 3, dtype=dtype), some_parts((6, 6), 8, 1), 8)
        assert sums.dtype == counts.dtype == dtype


def test_quarter_resolution_is_close_to_the_literal_full_resolution():
    """The reading of Sec. 3.3 at H x W and ours at h x w: same parts, nearly the same averages."""
    g = gen(4)
    coarse = torch.randn(1, 8, 6, 6, generator=g, dtype=torch.float64)
    features = resized(coarse, (24, 24), False)  # stride 4, smooth as network features are
    label = nearest(torch.randint(0, 3, (1, 6, 6), generator=g), (96, 96))
    prototypes = torch.randn(3, 2, 8, generator=g, dtype=torch.float64)
    literal = assign_parts(features, label, prototypes)
    ours = assign_parts(features, nearest(label, (24, 24)), prototypes)
    assert (nearest(literal, (24, 24)) == ours).double().mean() > 0.95
    full, full_count = part_sums(features, literal, 6)
    small, small_count = part_sums(features, ours, 6)
    present = (small_count > 10) & (full_count > 160)
    assert present.sum() >= 5
    alike = F.cosine_similarity(full, small, dim=2)[present]
    assert alike.min() > 0.99
    torch.testing.assert_close(small_count * 16, full_count, rtol=0.15, atol=32)


# -- prototypes -----------------------------------------------------------------------------

@pytest.mark.parametrize('momentum', [0.99, 0.5, 0.0, 1.0])
def test_update_equals_naive_and_leaves_absent_parts_alone(momentum):
    g = gen(5)
    prototypes = torch.randn(4, 3, 6, generator=g, dtype=torch.float64)
    counts = torch.randint(0, 4, (12,), generator=g).double()
    sums = torch.randn(12, 6, generator=g, dtype=torch.float64) * counts[:, None]
    before = prototypes.clone()
    new = update_prototypes(prototypes, sums, counts, momentum=momentum)
    assert new.shape == prototypes.shape and torch.equal(prototypes, before)
    assert 0 < (counts == 0).sum() < 12
    for c in range(4):
        for k in range(3):
            n = counts[c * 3 + k].item()
            if n == 0:
                assert torch.equal(new[c, k], prototypes[c, k])
                continue
            for d in range(6):
                want = (momentum * prototypes[c, k, d].item()
                        + (1 - momentum) * sums[c * 3 + k, d].item() / n)
                assert new[c, k, d].item() == pytest.approx(want, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_absent_parts_keep_every_bit_whatever_their_sums_hold(dtype):
    prototypes = torch.randn(2, 2, 5, generator=gen(6)).to(dtype)
    sums = torch.full((4, 5), float('nan'), dtype=dtype)
    new = update_prototypes(prototypes, sums, torch.zeros(4, dtype=dtype))
    assert torch.equal(new, prototypes)


def test_the_papers_momentum_is_the_default():
    prototypes, sums, counts = torch.ones(1, 1, 2), torch.full((1, 2), 6.0), torch.tensor([2.0])
    torch.testing.assert_close(update_prototypes(prototypes, sums, counts),
                               torch.full((1, 1, 2), 0.99 + 0.03))


def test_update_over_a_batch_is_the_average_over_its_pixels():
    features, labels, prototypes = case((5, 5), (5, 5))
    parts = assign_parts(features, labels, prototypes)
    sums, counts = part_sums(features, parts, 12)
    new = update_prototypes(prototypes, sums.sum(0), counts.sum(0), momentum=0.0).flatten(0, 1)
    flat = features.permute(0, 2, 3, 1)
    for k in range(12):
        if (parts == k).any():
            torch.testing.assert_close(new[k], flat[parts == k].mean(0))
        else:
            assert torch.equal(new[k], prototypes.flatten(0, 1)[k])


# -- seeds of classes without prototypes --------------------------------------------------------

def naive_seeds(features, labels, prototypes, known):
    """[(seed, cosine) or None] of each class."""
    out = []
    for c in range(len(prototypes)):
        mine = [p for p, there in zip(prototypes[c], known[c]) if there]
        best = None
        for image, label in zip(features, labels):
            pixels = [image[:, y, x] for y, x in (label == c).nonzero().tolist()]
            if not pixels:
                continue
            covered = [max([cosine(f, p) for p in mine], default=-2.0) for f in pixels]
            worst = covered.index(min(covered))
            if covered[worst] >= 1 - 1e-4 or (best and best[1] <= covered[worst]):
                continue
            near = [f for f, cover in zip(pixels, covered) if cosine(f, pixels[worst]) > cover]
            best = torch.stack(near).mean(0), covered[worst]
        out.append(best)
    return out


def test_seeds_are_of_the_pixels_that_no_prototype_describes():
    features, labels, prototypes = case((6, 7), (6, 7), num_classes=5, batch=3)
    labels[labels == 4] = -1  # nobody names class 4
    known = torch.tensor([[True] * 3, [True, False, False], [False] * 3, [True, True, False],
                          [False] * 3])
    prototypes[~known] = 0
    features[:, :, labels[0] == 3] = 7.0 * prototypes[3, 1][:, None]  # described, but for length
    labels[1:][labels[1:] == 3] = -1
    seeds, scores = part_seeds(features, labels, prototypes, known)
    want = naive_seeds(features, labels, prototypes, known)
    assert [w is None for w in want] == [False, False, False, True, True]
    for c, expected in enumerate(want):
        if expected is None:
            assert scores[c] == torch.inf
        else:
            torch.testing.assert_close(seeds[c], expected[0])
            assert scores[c].item() == pytest.approx(expected[1])


def test_a_spoilt_image_gives_no_seed():
    features, labels, prototypes = case((4, 4), (4, 4))
    known = torch.zeros(4, 3, dtype=torch.bool)
    clean = part_seeds(features[1:], labels[1:], 0 * prototypes, known)
    for value in (float('nan'), float('inf'), 0.0):
        features[0] = value
        for got, want in zip(part_seeds(features, labels, 0 * prototypes, known), clean):
            assert torch.equal(got, want)


def seeds_of(features, prototypes, num_classes=1, known=True):
    """Of an image of one row, ``features`` ``(D, W)``, whose pixels take turns in the classes."""
    labels = torch.arange(features.shape[1])[None, None] % num_classes
    prototypes = torch.tensor(prototypes).view(num_classes, 1, -1)
    return part_seeds(features[None, :, None], labels, prototypes,
                      torch.full((num_classes, 1), known))


def test_what_is_as_near_to_a_prototype_does_not_belong_to_the_seed():
    pixels = torch.tensor([[4.0, 0.0], [3.0, 3.0], [0.0, 2.0]]).T
    seeds, scores = seeds_of(pixels, [1.0, 0.0])
    assert seeds.tolist() == [[0, 2]] and scores.tolist() == [0]


@pytest.mark.parametrize('near, described', [(0.995, False), (0.9998, False), (0.99995, True)])
def test_what_rounding_alone_tells_from_a_prototype_gives_no_seed(near, described):
    pixel = torch.tensor([[near], [math.sqrt(1 - near ** 2)]], dtype=torch.float64)
    _, score = seeds_of(pixel, [[1.0, 0.0]])
    assert float(score) == (torch.inf if described else pytest.approx(near))


@pytest.mark.parametrize('value', [0.0, 3e38])  # no direction; a sum that float32 cannot hold
def test_a_class_without_a_seed_leaves_the_others_theirs(value):
    pixels = torch.randn(2, 10, generator=gen())
    pixels[:, ::2] = value
    seeds, scores = seeds_of(pixels, [[1.0, 0.0]] * 2, 2, known=False)
    assert scores.tolist() == [torch.inf, -2]
    torch.testing.assert_close(seeds[1], pixels[:, 1::2].mean(dim=1))


def test_a_class_whose_prototypes_are_unknown_has_no_part():
    features, labels, prototypes = case((3, 4), (6, 8))
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[2] = False
    got = assign_parts(features, labels, prototypes, mask=mask)
    want = assign_parts(features, torch.where(labels == 2, -1, labels), prototypes)
    assert torch.equal(got, want) and (labels == 2).any()


# -- the sample for K-means -----------------------------------------------------------------

def is_sample_of(picked, candidates, tolerance=1e-5):
    """Whether the rows are candidates, none more often than it occurs among them (pixels beside
    the border may share their features, so a row need not belong to one pixel only)."""
    near = (torch.cdist(picked, candidates) < tolerance).sum(dim=1)
    same = (torch.cdist(picked, picked) < tolerance).sum(dim=1)
    return bool((near >= 1).all() and (same <= near).all())


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('source, target', [((5, 6), (5, 6)), ((3, 4), (9, 11)), ((9, 7), (4, 3)),
                                            ((2, 5), (1, 9)), ((5, 2), (9, 1)),
                                            ((1, 1), (3, 3)), ((3, 4), (2, 2))])
def test_sample_holds_resized_features_of_pixels_of_the_class(source, target, align_corners):
    features, labels, _ = case(source, target, batch=1, width=16)
    label = labels[0]
    big = resized(features, target, align_corners)[0].flatten(1).T
    for limit in (3, 1000):
        out = sample_features(features[0], label, 4, limit, align_corners=align_corners,
                              generator=gen())
        assert len(out) == 4
        for c, (picked, keys, total) in enumerate(out):
            pixels = (label.flatten() == c).nonzero()[:, 0]
            count = min(limit, len(pixels))
            assert total == len(pixels)
            assert picked.shape == (count, 16) and keys.shape == (count,)
            assert picked.dtype == features.dtype
            assert ((keys >= 0) & (keys < 1)).all()
            assert not count or is_sample_of(picked, big[pixels])


def test_sample_of_an_absent_class_is_empty_and_unlabelled_pixels_are_left_out():
    label = torch.tensor([[0, 0, 255], [-1, 2, 2]])
    out = sample_features(torch.randn(3, 2, 3), label, 3, 10, generator=gen())
    assert [o[2] for o in out] == [2, 0, 2]
    assert out[1][0].shape == (0, 3) and out[1][1].shape == (0,)


def test_bounds_leave_out_what_a_full_sample_would_not_take():
    features, label = torch.randn(3, 6, 10), torch.arange(60).view(6, 10) % 2
    every = sample_features(features, label, 2, 60, generator=gen(1))
    below = sample_features(features, label, 2, 60, generator=gen(1), bounds=[0.3, float('inf')])
    for (rows, keys, total), (few, few_keys, same), bound in zip(every, below, (0.3, 1.0)):
        order, few_order = keys.argsort(), few_keys.argsort()
        wanted = order[keys[order] < bound]
        assert total == same == 30 and 0 < len(wanted)
        assert torch.equal(few_keys[few_order], keys[wanted])
        assert torch.equal(few[few_order], rows[wanted])


def test_a_key_at_its_bound_is_left_out():
    features, label = torch.randn(3, 6, 10), torch.zeros(6, 10).long()
    (_, keys, _), = sample_features(features, label, 1, 60, generator=gen(1))
    bound = float(keys.sort().values[7])
    (_, below, _), = sample_features(features, label, 1, 60, generator=gen(1), bounds=[bound])
    assert torch.equal(below.sort().values, keys.sort().values[:7])


def test_corners_are_not_aligned_unless_asked():
    features, label = torch.randn(3, 4, 5, generator=gen()), torch.zeros(9, 11).long()
    (rows, _, _), (same, _, _), (other, _, _) = (
        sample_features(features, label, 1, 20, generator=gen(1), **keys)[0]
        for keys in ({}, dict(align_corners=False), dict(align_corners=True)))
    assert torch.equal(rows, same) and not torch.allclose(rows, other)


def test_smallest_keys_are_the_ones_kept():
    features = torch.arange(60.0).view(1, 6, 10)
    label = torch.zeros(6, 10).long()
    rows, keys, _ = sample_features(features, label, 1, 60, generator=gen(1))[0]
    few, few_keys, _ = sample_features(features, label, 1, 7, generator=gen(1))[0]
    order = keys.argsort()[:7]
    few_order = few_keys.argsort()
    assert torch.equal(few_keys[few_order], keys[order])
    torch.testing.assert_close(few[few_order], rows[order], atol=1e-4, rtol=0)


def test_sample_is_uniform_over_the_pixels():
    features = torch.arange(48.0, dtype=torch.float64).view(1, 6, 8)
    label = torch.zeros(6, 8).long()
    label[:, 4:] = 1
    hits, draws, limit, g = torch.zeros(48), 1500, 5, gen(2)
    for _ in range(draws):
        for picked, _, _ in sample_features(features, label, 2, limit, generator=g):
            hits[picked[:, 0].round().long()] += 1
    for mask in (label.flatten() == 0, label.flatten() == 1):
        expected = draws * limit / 24
        assert hits[mask].sum() == draws * limit
        # Inclusion without replacement: variance of each count is E (1 - limit / n).
        chi2 = ((hits[mask] - expected) ** 2).sum() / (expected * (1 - limit / 24)) * 23 / 24
        assert chi2 < 56  # 23 degrees of freedom, p about 1e-4
    assert chi2 > 5  # and it does fluctuate


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 8), st.integers(1, 8),
       st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_shape(fh, fw, h, w, num_classes, num_parts, align, seed):
    features, labels, prototypes = case((fh, fw), (h, w), num_classes, num_parts, 3, seed=seed)
    num = num_classes * num_parts
    parts = assign_parts(features, labels, prototypes, align_corners=align)
    known = (labels >= 0) & (labels < num_classes)
    assert torch.equal(parts >= 0, known) and parts.max() < num
    sums, counts = part_sums(features, parts, num, align_corners=align)
    big = resized(features, (h, w), align) * known[:, None]
    torch.testing.assert_close(sums.sum(1), big.sum(dim=(2, 3)))
    assert counts.sum() == known.sum()
    new = update_prototypes(prototypes, sums.sum(0), counts.sum(0))
    assert torch.isfinite(new).all()
