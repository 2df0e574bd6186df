"""The number of parts of a class, against groups that are known and silhouettes by definition."""
import numpy as np
import pytest

from mmseg_esl.engine.hooks.part_clusters import fixed_parts, parts_by_silhouette


def directions(groups, pixels=40, width=8, spread=0.05, seed=0):
    """Features around ``groups`` orthogonal directions, of random lengths."""
    draw = np.random.RandomState(seed)
    centres = np.eye(width)[np.arange(groups * pixels) % groups]
    feats = centres + spread * draw.randn(groups * pixels, width)
    return (feats * draw.uniform(1, 1.2, (len(feats), 1))).astype(np.float32)


@pytest.mark.parametrize('groups', [2, 3, 4, 6])
def test_separate_groups_are_counted(groups):
    feats = directions(groups)
    found = parts_by_silhouette(feats, 6, 0)
    assert len(found) == groups
    cosine = found[:, :groups] / np.linalg.norm(found, axis=1, keepdims=True)
    assert sorted(cosine.argmax(axis=1)) == list(range(groups)) and cosine.max(axis=1).min() > 0.9


def test_no_structure_is_one_part():
    cloud = np.random.RandomState(0).randn(500, 64).astype(np.float32) + 2
    found = parts_by_silhouette(cloud, 5, 0)
    np.testing.assert_allclose(found, cloud.mean(axis=0, keepdims=True), rtol=1e-4)


def naive_silhouette(feats, labels):
    """Mean of (b - a) / max(a, b) over the pixels, pair by pair, in float64."""
    def distance(x, y):
        return 1 - float(x @ y) / np.sqrt(float(x @ x) * float(y @ y))

    values = []
    for i, x in enumerate(feats):
        means = {}
        for c in set(labels):
            mates = [j for j in range(len(feats)) if labels[j] == c and j != i]
            if mates:
                means[c] = np.mean([distance(x, feats[j]) for j in mates])
        if labels[i] not in means:
            values.append(0.0)
            continue
        a, b = means[labels[i]], min(m for c, m in means.items() if c != labels[i])
        values.append((b - a) / max(a, b))
    return float(np.mean(values))


def test_it_is_the_greatest_silhouette():
    draw = np.random.RandomState(3)
    feats = np.concatenate([directions(3, 12, 4, 0.3), 0.5 + draw.rand(10, 4)]).astype(np.float32)
    scores = {}
    for count in range(2, 6):
        centres = fixed_parts(feats, count, 0)
        labels = np.linalg.norm(feats[:, None] - centres[None], axis=2).argmin(axis=1)
        scores[count] = naive_silhouette(feats.astype(np.float64), labels.tolist())
    assert max(scores.values()) > 0.25
    assert len(parts_by_silhouette(feats, 5, 0)) == max(scores, key=scores.get)
    # and one part if that is not enough
    assert len(parts_by_silhouette(feats, 5, 0, least=max(scores.values()) + 0.01)) == 1


def test_lengths_do_not_count():
    """Distances are those of directions: two bundles, whose lengths lie apart as well."""
    feats = directions(2, 60, 8, 0.02) * np.random.RandomState(1).uniform(1, 3, (120, 1))
    assert len(parts_by_silhouette(feats.astype(np.float32), 2, 0, least=0.9)) == 2


@pytest.mark.filterwarnings('ignore:Number of distinct clusters')
def test_of_equal_scores_the_smaller_number(seed=0):
    assert len(parts_by_silhouette(np.repeat(np.eye(2, 4, dtype=np.float32), 5, axis=0), 4, 0)) == 2


def test_structure_begins_at_a_quarter():
    """By default, of two overlapping bundles."""
    feats = directions(2, 40, 8, 0.5)
    labels = np.linalg.norm(feats[:, None] - fixed_parts(feats, 2, 0)[None], axis=2).argmin(axis=1)
    assert 0.25 < naive_silhouette(feats.astype(np.float64), labels.tolist()) < 0.38
    assert len(parts_by_silhouette(feats, 2, 0)) == 2


def test_the_same_seed_finds_the_same():
    cloud = np.random.RandomState(0).randn(300, 8).astype(np.float32)
    one, two, other = (fixed_parts(cloud, 9, seed) for seed in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


@pytest.mark.parametrize('feats', [np.ones((5, 4), np.float32), np.zeros((5, 4), np.float32),
                                   np.eye(2, 4, dtype=np.float32)])
@pytest.mark.filterwarnings('ignore:Number of distinct clusters')
def test_few_or_equal_pixels(feats):
    found = parts_by_silhouette(feats, 2, 0)
    assert len(found) in (1, 2) and np.isfinite(found).all()


def test_a_sample_decides_and_all_pixels_make_the_means():
    feats = directions(3, 700)
    found = parts_by_silhouette(feats, 5, 0, sample=100)
    wanted = np.stack([feats[i::3].mean(axis=0) for i in range(3)])
    order = (found @ wanted.T).argmax(axis=0)
    np.testing.assert_allclose(found[order], wanted, rtol=1e-3, atol=1e-3)
