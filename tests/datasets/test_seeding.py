"""An augmentation is a function of seed, stream and position."""
import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.runner import Runner
from mmseg.registry import DATASETS

from mmseg_esl.datasets import SemiBatchSampler
from mmseg_esl.datasets.seeding import Draw, seeded


def drawn() -> tuple:
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def semi(data):
    return DATASETS.build(data.semi_cfg())


def test_a_draw_is_an_int_that_travels():
    draw = pickle.loads(pickle.dumps(Draw(5, 3, 1, 70)))
    assert draw == 5 and [10, 11, 12, 13, 14, 15][draw] == 15 and draw.key == (3, 1, 70)
    assert type(draw % 4) is int


def test_seeded_and_put_back():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = drawn()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    inside = set()
    for key in itertools.product((0, 3), (0, 1), (0, 1, 2)):
        with seeded(Draw(0, *key)):
            first = drawn()
        with seeded(Draw(9, *key)):  # whichever image it is
            assert drawn() == first
        inside.add(first)
    with pytest.raises(ZeroDivisionError), seeded(Draw(0, 0, 0, 0)):
        raise ZeroDivisionError
    assert drawn() == expected  # nobody noticed, neither after an error
    # seeds, streams and positions are independent of each other, and so are the generators
    assert len({value for values in inside for value in values}) == 3 * 12
    with seeded(4):  # a plain int: the numbers as they come
        last = drawn()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    drawn()
    assert drawn() == last


def test_an_image_is_cut_as_its_position_says(semi):
    """Whatever was drawn before, and otherwise at the next position."""
    first = semi[Draw(2, 0, 0, 8)]['inputs']
    drawn(), semi[Draw(6, 0, 1, 8)], semi[3]
    assert torch.equal(semi[Draw(2, 0, 0, 8)]['inputs'], first)
    others = [semi[Draw(2, 0, 0, position)]['inputs'] for position in range(9, 15)]
    assert any(not torch.equal(other, first) for other in others)


@pytest.mark.parametrize('start', [0, 3])
def test_workers_make_no_difference(data, start):
    def batches(workers):
        loader = Runner.build_dataloader(dict(
            batch_size=3, num_workers=workers, dataset=data.semi_cfg(),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            batch_sampler=dict(type='SemiBatchSampler', num_labeled=1, num_unlabeled=2)), seed=3)
        loader.batch_sampler.set_start(start)
        return [batch['inputs'] for batch in itertools.islice(loader, 6 - start)]

    whole, alone = batches(2), batches(0)
    torch.manual_seed(8)
    for one, other in zip(whole, alone):
        assert all(torch.equal(a, b) for a, b in zip(one, other))
    assert len(whole) == 6 - start


def sampler(semi, rank, world, labeled, unlabeled, seed=5):
    inner = InfiniteSampler(semi, seed=seed)
    inner.rank, inner.world_size = rank, world
    return SemiBatchSampler(inner, labeled + unlabeled, labeled, unlabeled)


def positions(samplers, begin, end) -> list:
    """What all ranks draw from begin to end, by stream, in order."""
    keys = [draw.key for it in range(begin, end) for s in samplers for draw in s.batch(it)]
    return [sorted(key for key in keys if key[1] == stream) for stream in (0, 1)]


@pytest.mark.parametrize('world, labeled, unlabeled', [(2, 1, 3), (1, 2, 6), (1, 1, 1), (3, 2, 1)])
def test_streams_continue_on_other_ranks(semi, world, labeled, unlabeled):
    """No position is left out or drawn twice, however the ranks share them; the seed stays."""
    before = [sampler(semi, rank, 2, 1, 3) for rank in range(2)]
    state = before[1].state_dict(7)
    assert state == dict(seed=5, iteration=7, labeled=14, unlabeled=42)
    after = [sampler(semi, rank, world, labeled, unlabeled, seed=99) for rank in range(world)]
    for one in after:
        one.load_state_dict(state)
    old, new = positions(before, 0, 7), positions(after, 7, 20)
    for stream, per_rank in enumerate((labeled, unlabeled)):
        whole = old[stream] + new[stream]
        assert whole == [(5, stream, position) for position in range(len(whole))]
        assert len(new[stream]) == 13 * world * per_rank
    again = sampler(semi, 0, world, labeled, unlabeled)
    again.load_state_dict(after[0].state_dict(11))
    assert positions([again], 11, 14) == positions(after[:1], 11, 14)
    assert again.batch(0)  # thrown away by a loop that replays, but it has to come
