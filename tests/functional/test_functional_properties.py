"""Any shape, any label pattern, any probabilities: what holds, and what a permutation changes.

Ties, one-hot rows, zeros and vanishing probabilities are drawn on purpose; the files beside this
one compare with loops.
"""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_esl.functional import (
    assign_parts,
    cutmix_mask,
    dynamic_soft_label,
    hard_label,
    mix,
    part_contrast,
    part_sums,
    sample_anchors,
    soft_cross_entropy,
    topk_soft_label,
    update_prototypes,
)

FEW = settings(max_examples=40, deadline=None, derandomize=True)
WEIGHTS = [0.0, 1e-38, 1e-12, 1e-3, 0.05, 0.95, 1.0, 1.0, 3.0, 1e6]
SEEDS = st.integers(0, 10**6)
LABELS = {
    'dynamic': dynamic_soft_label,
    'top-2': lambda probs: topk_soft_label(probs, k=2),
    'hard': hard_label,
}


def gen(seed):
    return torch.Generator().manual_seed(seed)


@st.composite
def distributions(draw):
    """(N, C, H, W) rows that sum to 1, of few different values."""
    shape = tuple(draw(st.integers(1, most)) for most in (3, 9, 4, 4))
    picks = torch.randint(len(WEIGHTS), shape, generator=gen(draw(SEEDS)))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)[picks]
    weights[:, 0] += (weights.sum(1) == 0).double()
    return (weights / weights.sum(1, keepdim=True)).to(
        draw(st.sampled_from([torch.float32, torch.float64])))


@pytest.mark.parametrize('kind', list(LABELS))
@given(probs=distributions(), seed=SEEDS)
@FEW
def test_soft_label(kind, probs, seed):
    """A distribution over classes that the teacher holds possible; the loss on it is finite."""
    target, size = LABELS[kind](probs)
    classes = probs.size(1)
    torch.testing.assert_close(target.sum(1), torch.ones_like(target[:, 0]))
    assert (target >= 0).all() and not target[probs == 0].any()
    assert ((size >= 1) & (size <= classes)).all()
    n, _, h, w = probs.shape
    for scale in (1.0, 1e4):  # a student that is sure of something else
        logits = (scale * torch.randn(probs.shape, generator=gen(seed))).requires_grad_()
        valid = torch.rand(n, h, w, generator=gen(seed + 1)) > 0.5
        loss = soft_cross_entropy(logits, target, valid)
        loss.backward()
        assert torch.isfinite(loss) and loss >= 0 and torch.isfinite(logits.grad).all()
        assert not logits.grad.movedim(1, -1)[~valid].any()


@pytest.mark.parametrize('kind', list(LABELS))
@given(probs=distributions(), seed=SEEDS)
@FEW
def test_soft_label_permutes(kind, probs, seed):
    target, size = LABELS[kind](probs)
    images = torch.randperm(len(probs), generator=gen(seed))
    moved, moved_size = LABELS[kind](probs[images])
    assert torch.equal(moved, target[images]) and torch.equal(moved_size, size[images])

    classes = torch.randperm(probs.size(1), generator=gen(seed))
    moved, moved_size = LABELS[kind](probs[:, classes])
    assert torch.equal(moved_size, size)
    alone = (probs == probs.amax(1, keepdim=True)).sum(1) == 1
    if kind == 'hard':  # of equal ones the first class wins: the only place where order counts
        moved, target = moved * alone[:, None], target * alone[:, None]
    torch.testing.assert_close(moved, target[:, classes])


@given(target=distributions(), seed=SEEDS)
@FEW
def test_soft_cross_entropy_permutes(target, seed):
    n, c, h, w = target.shape
    logits = torch.randn(target.shape, generator=gen(seed), dtype=torch.float64)
    valid = torch.rand(n, h, w, generator=gen(seed + 1)) > 0.3
    images, classes = torch.randperm(n, generator=gen(seed)), torch.randperm(c, generator=gen(seed))
    moved = soft_cross_entropy(logits[images][:, classes], target[images][:, classes],
                               valid[images])
    torch.testing.assert_close(moved, soft_cross_entropy(logits, target, valid))


@st.composite
def grids(draw):
    """Features (N, D, h, w), labels (N, H, W) with 255 and -1, prototypes (C, K, D)."""
    g = gen(draw(SEEDS))
    n, c, k = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    size = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    features = torch.randn(n, 3, *(draw(st.integers(1, 4)) for _ in 'hw'), generator=g,
                           dtype=torch.float64)
    known = torch.tensor([-1, 255, *range(c)][:draw(st.integers(1, c + 2))])
    labels = known[torch.randint(len(known), (n, *size), generator=g)]
    return features, labels, torch.randn(c, k, 3, generator=g, dtype=torch.float64)


@given(grids(), SEEDS)
@FEW
def test_parts_permute(case, seed):
    features, labels, prototypes = case
    c, k, width = prototypes.shape
    parts = assign_parts(features, labels, prototypes)
    sums, counts = part_sums(features, parts, c * k)
    updated = update_prototypes(prototypes, sums.sum(0), counts.sum(0))
    assert torch.isfinite(updated).all()

    images = torch.randperm(len(features), generator=gen(seed))
    moved = assign_parts(features[images], labels[images], prototypes)
    assert torch.equal(moved, parts[images])
    for a, b in zip(part_sums(features[images], moved, c * k), (sums, counts)):
        torch.testing.assert_close(a, b[images])

    names = torch.randperm(c, generator=gen(seed))  # old class -> new class
    where = names.argsort()  # new class -> old class
    real = (labels >= 0) & (labels < c)
    renamed = torch.where(real, names[labels.clamp(0, c - 1)], labels)
    moved = assign_parts(features, renamed, prototypes[where])
    assert torch.equal(moved, torch.where(parts >= 0, names[parts.clamp(min=0) // k] * k
                                          + parts.clamp(min=0) % k, parts))
    moved_sums, moved_counts = part_sums(features, moved, c * k)
    torch.testing.assert_close(moved_sums.view(-1, c, k, width),
                               sums.view(-1, c, k, width)[:, where])
    again = update_prototypes(prototypes[where], moved_sums.sum(0), moved_counts.sum(0))
    torch.testing.assert_close(again, updated[where])


@given(st.integers(0, 60), st.integers(1, 6), st.sampled_from([0.01, 0.1, 0.5, 1.0]), SEEDS)
@FEW
def test_anchor_quotas_follow_the_classes(total, num_classes, fraction, seed):
    """However the classes are named or ordered, each has its share."""
    classes = torch.randint(-1, num_classes, (total, ), generator=gen(seed))
    names = torch.randperm(num_classes, generator=gen(seed))
    renamed = torch.where(classes >= 0, names[classes.clamp(min=0)], classes)
    for labels in (classes, renamed, classes.flip(0)):
        index, chosen = sample_anchors(labels, num_classes, fraction=fraction,
                                       generator=gen(seed))
        drawn = torch.bincount(labels[index[chosen]], minlength=num_classes)
        sizes = torch.bincount(labels[labels >= 0], minlength=num_classes)
        wanted = [0 if not n else min(n, max(1, round(fraction * n))) for n in sizes.tolist()]
        assert drawn.tolist() == wanted


@pytest.mark.parametrize('mode', ['shared', 'independent'])
@given(total=st.integers(1, 20), slots=st.integers(1, 4), one_class=st.booleans(), seed=SEEDS)
@FEW
def test_contrast_permutes(mode, total, slots, one_class, seed):
    """Two queues, each full of one vector: what is drawn is certain, so results can be compared."""
    g = gen(seed)
    num_classes = 1 if one_class else 2
    queue = torch.randn(2, 1, 3, generator=g, dtype=torch.float64).repeat(1, slots + 1, 1)
    filled = torch.full((2, ), slots)
    embeddings = torch.randn(total, 3, generator=g, dtype=torch.float64)
    parts = torch.randint(2, (total, ), generator=g)
    chosen = torch.rand(total, generator=g) < 0.8

    def run(order, swap):
        x = embeddings[order].clone().requires_grad_()
        own = 1 - parts[order] if swap else parts[order]
        classes = torch.zeros_like(own) if one_class else own
        loss, used = part_contrast(x, classes, own, chosen[order],
                                   queue.flip(0) if swap else queue, filled, num_classes,
                                   num_negatives=5, negatives=mode, generator=gen(seed))
        loss.backward()
        return loss.detach(), used, x.grad

    still = torch.arange(total)
    loss, used, grad = run(still, swap=False)
    assert torch.isfinite(loss) and torch.isfinite(grad).all()
    order = torch.randperm(total, generator=gen(seed))
    moved_loss, moved_used, moved_grad = run(order, swap=False)
    torch.testing.assert_close((moved_loss, moved_used, moved_grad), (loss, used, grad[order]))
    moved_loss, moved_used, moved_grad = run(still, swap=True)
    wanted = used if one_class else used.flip(0)
    torch.testing.assert_close((moved_loss, moved_used, moved_grad), (loss, wanted, grad))


@given(distributions(), st.floats(0, 1), SEEDS)
@FEW
def test_mixing_keeps_distributions_and_permutes_with_the_classes(probs, area, seed):
    mask = cutmix_mask(len(probs), tuple(probs.shape[-2:]), area=area, generator=gen(seed))
    mixed = mix(probs, mask)
    torch.testing.assert_close(mixed.sum(1), torch.ones_like(mixed[:, 0]))
    classes = torch.randperm(probs.size(1), generator=gen(seed))
    assert torch.equal(mix(probs[:, classes], mask), mixed[:, classes])
