"""Queues against collections.deque, staging against copies."""
from collections import deque

import pytest
import tiny  # noqa: F401
import torch
from mmengine.runner.checkpoint import load_state_dict

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
