"""Queues against collections.deque, staging against copies."""
from collections import deque

import pytest
import tiny  # noqa: F401
import torch
from mmengine.runner.checkpoint import load_state_dict

from mmseg_esl.functional import assign_parts, part_seeds, part_sums
from mmseg_esl.models import PartMemory

C, K, Q, D, WIDTH = 3, 2, 4, 5, 6
N = C * K


def memory(**changes):
    return PartMemory(**{**dict(num_classes=C, feat_channels=D, embed_channels=WIDTH, num_parts=K,
                                queue_length=Q, momentum=0.9), **changes})


def random_step(images, gen, share=0.6):
    counts = torch.randint(1, 9, (images, N), generator=gen).float()
    counts *= (torch.rand(images, N, generator=gen) < share)
    sums = torch.randn(images, N, WIDTH, generator=gen) * (counts > 0)[..., None]
    feats = torch.randn(images, N, D, generator=gen) * (counts > 0)[..., None]
    return sums, counts, feats, counts.clone()


def state(m):
    return {key: value.clone() for key, value in m.state_dict().items()}


def assert_same(a, b):
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_queues_are_fifo_over_many_pushes():
    m, gen = memory(), torch.Generator().manual_seed(0)
    model = [deque(maxlen=Q) for _ in range(N)]
    for step in range(60):
        images = 1 + step % 11  # more images than places, too
        sums, counts, feats, fcounts = random_step(images, gen, share=0.2 + 0.7 * (step % 2))
        m.stage(sums, counts, feats, fcounts)
        for n, slots in enumerate(m._undo[-1][1].T.tolist()):  # which of two writes wins is luck
            kept = [slot for slot in slots if slot < Q]
            assert len(kept) == len(set(kept)) == min(Q, int((counts[:, n] > 0).sum()))
        m.commit()
        for b in range(images):
            for n in range(N):
                if counts[b, n]:
                    model[n].append(sums[b, n] / counts[b, n])
        assert m.filled.tolist() == [len(d) for d in model]
        for n in range(N):
            if not model[n]:
                continue
            first = int(m.pushed[n]) - len(model[n])  # the oldest entry's running number
            slots = [(first + i) % Q for i in range(len(model[n]))]
            assert sorted(slots) == list(range(len(model[n])))
            torch.testing.assert_close(m.queue[n, slots], torch.stack(list(model[n])))
        assert not m.queue[:, Q].any()


@pytest.mark.parametrize('stages', [1, 3])
def test_rollback_restores_every_bit(stages):
    m, gen = memory(), torch.Generator().manual_seed(1)
    for _ in range(5):
        m.stage(*random_step(3, gen))
        m.commit()
    before = state(m)
    for _ in range(stages):
        m.stage(*random_step(7, gen))
    assert not torch.equal(m.queue, before['queue'])
    m.rollback()
    assert_same(before, state(m))
    m.commit()  # nothing is left to commit
    assert_same(before, state(m))


def test_commit_moves_present_prototypes_alone():
    m, gen = memory(), torch.Generator().manual_seed(2)
    start = torch.randn(C, K, D, generator=gen)
    m.start(start)
    sums, counts, feats, fcounts = random_step(4, gen)
    fcounts[:, 3] = 0
    feats[:, 3] = 0
    m.stage(sums, counts, feats, fcounts)
    assert torch.equal(m.prototypes, start)  # staged is not done
    m.commit()
    for n in range(N):
        c, k = divmod(n, K)
        total = fcounts[:, n].sum()
        if total == 0:
            assert torch.equal(m.prototypes[c, k], start[c, k])
        else:
            mean = feats[:, n].sum(0) / total
            torch.testing.assert_close(m.prototypes[c, k], 0.9 * start[c, k] + 0.1 * mean)
    assert (fcounts.sum(0) == 0).any() and (fcounts.sum(0) > 0).any()
    once = m.prototypes.clone()
    m.commit()
    assert torch.equal(m.prototypes, once)


def test_state_dict_round_trip_and_start():
    m, gen = memory(), torch.Generator().manual_seed(3)
    assert not m.initialised and m.active is None
    m.stage(*random_step(9, gen))
    m.commit()
    m.start(torch.randn(C, K, D, generator=gen))
    assert m.initialised and not m.queue.any() and not m.pushed.any()
    m.stage(*random_step(9, gen))
    m.commit()
    other = memory()
    other.load_state_dict(m.state_dict())
    assert_same(state(m), state(other))
    step = random_step(3, gen)
    for each in (m, other):
        each.stage(*step)
        each.commit()
    assert_same(state(m), state(other))


@pytest.mark.parametrize('changes', [dict(num_parts=0), dict(queue_length=0), dict(momentum=1.1)])
def test_bad_sizes(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        memory(**changes)


@pytest.mark.parametrize('change', [dict(num_parts=3), dict(queue_length=5), dict(embed_channels=4),
                                    dict(num_classes=4)])
def test_a_memory_of_another_size_is_left_out_whole(change):
    sizes = dict(num_classes=3, feat_channels=6, embed_channels=5, num_parts=2, queue_length=4)
    old, new = PartMemory(**sizes), PartMemory(**dict(sizes, **change))
    old.start(torch.ones_like(old.prototypes))
    old.pushed.fill_(3)
    with pytest.warns(UserWarning, match='another size'):
        load_state_dict(new, old.state_dict(), strict=False)
    assert not new.initialised and (new.pushed == 0).all() and (new.prototypes == 0).all()
    same = PartMemory(**sizes)
    load_state_dict(same, old.state_dict(), strict=True)
    assert same.initialised and (same.prototypes == 1).all()


def test_a_memory_saved_before_there_was_a_mask():
    old, new = memory(), memory()
    old.start(torch.randn(C, K, D))
    content = state(old)
    del content['part_mask']
    new.part_mask[0, 1] = False
    new.load_state_dict(content, strict=True)
    assert new.part_mask.all() and torch.equal(new.prototypes, old.prototypes)


# ------------------------------------------------------------- classes that the labelled set lacks


def modes(count, width, pixels, gen):
    """``(1, width, count, pixels)``: a row of each of some clear directions, positive as after a
    ReLU; noise on top."""
    clear = torch.eye(width)[:count] * 5
    noise = 0.2 * torch.rand(count, pixels, width, generator=gen)
    return (clear[:, None] + noise).permute(2, 0, 1)[None]


def update(m, features, labels):
    """One step of one process."""
    seeds = part_seeds(features, labels, m.prototypes, m.usable) if m.lacking else None
    parts = assign_parts(features, labels, m.prototypes, mask=m.usable)
    sums, counts = part_sums(features, parts, m.num_queues)
    embeds = torch.ones(len(features), m.num_queues, WIDTH) * counts[..., None]
    m.stage(embeds, counts, sums, counts, seeds=seeds)
    return parts


def test_a_class_without_labels_gets_a_part_of_each_mode():
    """With prototypes of zeros, part 0 would take all pixels for ever."""
    gen = torch.Generator().manual_seed(4)
    m = PartMemory(num_classes=2, feat_channels=8, embed_channels=WIDTH, num_parts=5)
    start = torch.zeros(2, 5, 8)
    start[0] = torch.rand(5, 8, generator=gen)
    m.start(start)
    assert m.lacking and m.usable.tolist() == [[True] * 5, [False] * 5]
    features, labels = modes(5, 8, 160, gen), torch.ones(1, 5, 160, dtype=torch.long)
    for step in range(300):
        parts = update(m, features, labels)
        assert (parts == -1).all() == (step == 0)  # nothing is pushed before there is a prototype
        m.commit()
    assert m.pushed[:5].sum() == 0 and (m.pushed[5:] > 200).all()
    for row in parts[0]:  # each mode is a part, of its own
        assert len(row.unique()) == 1
    assert len(parts.unique()) == 5
    means = features[0].mean(dim=-1).T
    own = m.prototypes[1][parts[0, :, 0] - 5]
    assert torch.nn.functional.cosine_similarity(own, means).min() > 0.99
    assert torch.equal(m.prototypes[0], start[0])


def test_parts_without_a_prototype_are_not_planted_twice_alike():
    gen = torch.Generator().manual_seed(5)
    m = memory(num_parts=3)
    m.start(torch.zeros(C, 3, D))
    one = torch.rand(D, generator=gen).view(1, D, 1, 1).expand(1, D, 2, 3)
    for scale in (1.0, 2.0, 3.0):  # all in one direction: a single part
        update(m, one * scale, torch.full((1, 2, 3), 2))
        m.commit()
    assert m.usable.sum(dim=1).tolist() == [0, 0, 1]
    m.start(torch.zeros(C, 3, D), torch.tensor([[True, True, False]] * C))
    for _ in range(5):  # a part that is not in use is never planted
        update(m, torch.rand(2, D, 4, 4, generator=gen), torch.full((2, 4, 4), 1))
        m.commit()
    assert m.usable.sum(dim=1).tolist() == [0, 2, 0] and not m.prototypes[:, 2].any()


def test_seeds_of_micro_batches_are_those_of_one_batch_and_can_be_taken_back():
    gen = torch.Generator().manual_seed(6)
    features = torch.rand(3, D, 4, 4, generator=gen)
    labels = torch.randint(C, (3, 4, 4), generator=gen)
    one, many = memory(), memory()
    start = torch.rand(C, K, D, generator=gen)
    start[1, 1] = start[2] = 0
    for m in (one, many):
        m.start(start)
    before = state(many)
    update(one, features, labels)
    one.commit()
    for b in (0, 1, 2):
        update(many, features[b:b + 1], labels[b:b + 1])
    assert torch.equal(many.prototypes, start)
    many.rollback()
    many.commit()
    assert_same(before, state(many))
    for b in (0, 1, 2):
        update(many, features[b:b + 1], labels[b:b + 1])
    many.commit()
    for lacked in ((1, 1), (2, 0)):
        assert one.prototypes[lacked].any()
        assert torch.equal(one.prototypes[lacked], many.prototypes[lacked])
    assert not one.prototypes[2, 1].any()


def test_only_a_memory_that_lacks_prototypes_looks_for_seeds():
    m, other = memory(), memory()
    m.start(torch.ones(C, K, D))
    assert not m.lacking
    lacks = torch.ones(C, K, D)
    lacks[1, 0] = 0
    m.start(lacks, lacks[..., 0] > 0)  # a part out of use is none that lacks
    assert not m.lacking
    m.start(lacks)
    other.load_state_dict(m.state_dict())
    assert m.lacking and other.lacking


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_spoilt_feature_is_not_pushed(value):
    m, gen = memory(), torch.Generator().manual_seed(7)
    sums, counts, feats, fcounts = random_step(5, gen, share=2.0)  # every part in every image
    sums[2, 3, 1] = value
    m.stage(sums, counts, feats, fcounts)
    assert m.queue.isfinite().all()
    assert m.pushed.tolist() == [5, 5, 5, 4, 5, 5]
    kept = [b for b in range(5) if b != 2]
    torch.testing.assert_close(m.queue[3, :4], (sums / counts[..., None])[kept, 3])
