"""Queues of pixels against collections.deque; what is staged against what is written."""
from collections import deque

import pytest
import tiny  # noqa: F401
import torch
from mmengine.runner.checkpoint import load_state_dict

from mmseg_esl.models import ClassQueues

C, L = 3, 4


def queues(**changes):
    return ClassQueues(**{**dict(num_classes=C, channels=L, length=5, first_length=8), **changes})


def random_step(gen, images=2, share=0.3):
    return (torch.randn(images, L, 2, 3, generator=gen),
            torch.rand(images, C, 2, 3, generator=gen) < share)


def push(model, features, candidates):
    for b in range(len(features)):
        for y in range(2):
            for x in range(3):
                for c in range(C):
                    if candidates[b, c, y, x]:
                        model[c].append(features[b, :, y, x])


def content(memory, c):
    """What a class's queue holds, oldest first."""
    filled, total = int(memory.filled[c]), int(memory.total[c])
    slots = torch.arange(total - filled, total) % memory.lengths[c]
    return memory.read(torch.full_like(slots, c), slots)


def check(memory, model):
    assert memory.filled.tolist() == [len(d) for d in model]
    for c, d in enumerate(model):
        if d:
            assert torch.equal(content(memory, c), torch.stack(list(d)))


@pytest.mark.parametrize('stages', [1, 3])
def test_fifo(stages):
    """Staged entries read as written ones do; under accumulation several stages make a step."""
    memory, gen = queues(), torch.Generator().manual_seed(0)
    model = [deque(maxlen=n) for n in memory.lengths]
    for step in range(20):
        for _ in range(stages):
            found = random_step(gen, share=(0.05, 0.3, 0.9)[step % 3])  # more than fit, too
            memory.stage(*found)
            push(model, *found)
            check(memory, model)
        memory.commit()
        check(memory, model)


def test_an_oversize_push_keeps_the_newest():
    memory = ClassQueues(2, 1, length=30000, first_length=2)
    rows = torch.arange(30001.0).view(1, 1, 1, -1)
    enters = torch.ones(1, 2, 1, 30001, dtype=torch.bool)
    memory.stage(rows, enters)
    memory.commit()
    assert content(memory, 1).flatten().tolist() == list(range(1, 30001))
    assert content(memory, 0).flatten().tolist() == [29999, 30000]


def test_rollback_restores_every_bit():
    memory, gen = queues(), torch.Generator().manual_seed(1)
    memory.stage(*random_step(gen))
    memory.commit()
    before = {key: value.clone() for key, value in memory.state_dict().items()}
    memory.stage(*random_step(gen))
    memory.stage(*random_step(gen))
    assert (memory.total > before['pushed']).any()
    memory.rollback()
    memory.commit()  # nothing is left to commit
    assert all(torch.equal(before[key], value) for key, value in memory.state_dict().items())


def test_labelled_images_come_first(monkeypatch):
    """Of two processes, the labelled image of each, then the others."""
    gen = torch.Generator().manual_seed(2)
    one, two = random_step(gen), random_step(gen)
    together, apart = queues(), queues()
    together.stage(*(torch.cat([a[:1], b[:1], a[1:], b[1:]]) for a, b in zip(one, two)))
    rows = [[x.permute(0, 2, 3, 1).flatten(1, 2) for x in step] for step in (one, two)]
    gathered = iter([[x[1].any(dim=-1).byte() for x in rows], *zip(*rows)])
    monkeypatch.setattr('mmseg_esl.models.gathered.all_gather', lambda x: next(gathered))
    apart.stage(*one, num_labeled=1)
    for memory in (together, apart):
        memory.commit()
    assert torch.equal(together.queue, apart.queue) and torch.equal(together.pushed, apart.pushed)


def test_half_precision_is_kept_as_float():
    memory, (features, candidates) = queues(), random_step(torch.Generator().manual_seed(3))
    memory.stage(features.bfloat16(), candidates)
    assert content(memory, 0).dtype == torch.float32
    memory.commit()
    assert torch.equal(content(memory, 0)[-1], features.bfloat16().float().permute(0, 2, 3, 1)[
        candidates[:, 0]][-1])


@pytest.mark.parametrize('change', [dict(length=6), dict(channels=5), dict(num_classes=4)])
def test_a_memory_of_another_size_is_left_out_whole(change):
    old, new = queues(), queues(**change)
    old.stage(*random_step(torch.Generator().manual_seed(4)))
    old.commit()
    with pytest.warns(UserWarning, match='ClassQueues is of another size'):
        load_state_dict(new, old.state_dict(), strict=False)
    assert not new.pushed.any() and not new.queue.any()
    same = queues()
    same.load_state_dict(old.state_dict(), strict=True)
    assert torch.equal(same.queue, old.queue) and same.pushed.any()


@pytest.mark.parametrize('change', [dict(length=0), dict(first_length=0)])
def test_bad_sizes(change):
    with pytest.raises(ValueError, match='length'):
        queues(**change)
