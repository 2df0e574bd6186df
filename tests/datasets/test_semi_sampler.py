import itertools

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import Runner
from mmseg.registry import DATA_SAMPLERS, DATASETS

from mmseg_esl.datasets import SemiBatchSampler, SemiDataset

FROZEN = ([6, 3, 5, 0, 7, 2, 1, 4], [5, 7, 1, 4, 2, 6, 0, 3])


@pytest.fixture
def semi(data):
    return DATASETS.build(data.semi_cfg())  # 4 labelled, 7 unlabelled


def build(dataset, labeled, unlabeled, rank=0, world=1, shuffle=True, seed=5, kind='num',
          **kwargs):
    sampler = InfiniteSampler(dataset, shuffle=shuffle, seed=seed)
    sampler.rank, sampler.world_size = rank, world
    return DATA_SAMPLERS.build(
        {'type': 'SemiBatchSampler', f'{kind}_labeled': labeled, f'{kind}_unlabeled': unlabeled},
        default_args=dict(sampler=sampler, batch_size=labeled + unlabeled, **kwargs))


def take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def naive(labeled, unlabeled, world, iterations, seed, shuffle, sizes=(4, 7)):
    """Deal each pass out like cards: ranks in turn, iteration after iteration."""
    decks = []
    for stream, size in enumerate(sizes):
        deck = []
        for number in range(200):
            words = np.random.SeedSequence([seed, stream, number])
            order = np.random.RandomState(np.random.MT19937(words)).permutation(size)
            deck += order.tolist() if shuffle else list(range(size))
        decks.append(deck)
    batches = {rank: [] for rank in range(world)}
    for _ in range(iterations):
        for rank in range(world):
            first = [decks[0].pop(0) for _ in range(labeled)]
            batches[rank].append(first + [decks[1].pop(0) + sizes[0] for _ in range(unlabeled)])
    return batches


@pytest.mark.parametrize('labeled, unlabeled', [(1, 1), (2, 2), (1, 3), (3, 1), (2, 9), (1, 0)])
@pytest.mark.parametrize('world', [1, 2, 3])
@pytest.mark.parametrize('shuffle', [True, False])
def test_against_naive(semi, labeled, unlabeled, world, shuffle):
    expected = naive(labeled, unlabeled, world, 15, 5, shuffle)
    for rank in range(world):
        sampler = build(semi, labeled, unlabeled, rank, world, shuffle)
        assert take(sampler, 15) == expected[rank]


def test_every_image_once_per_pass(semi):
    """Over all ranks, and in another order in the next pass."""
    samplers = [build(semi, 1, 1, rank, 2) for rank in range(2)]
    steps = list(zip(*(take(s, 14) for s in samplers)))
    flat = [batch for step in steps for batch in step]
    labeled, unlabeled = zip(*flat)
    for passes, size, first in ((labeled, 4, 0), (unlabeled, 7, 4)):
        orders = [passes[i:i + size] for i in range(0, len(passes) - size + 1, size)]
        assert all(sorted(o) == list(range(first, first + size)) for o in orders)
        assert len(set(orders)) > 1
    assert all(not set(a) & set(b) for a, b in steps[:2])


def test_start_anywhere(semi, monkeypatch):
    whole = take(build(semi, 2, 3), 40)
    sampler = build(semi, 2, 3)
    for start in (0, 1, 7, 29):
        sampler.set_start(start)
        assert take(sampler, 5) == whole[start:start + 5]
        assert sampler.batch(start) == whole[start]
    # nothing before the start is drawn: two passes per stream at most for one batch
    from mmseg_esl.datasets import sampler as module
    drawn, real = [], module.permutation
    monkeypatch.setattr(module, 'permutation', lambda *args: drawn.append(args) or real(*args))
    far = build(semi, 2, 3)
    far.set_start(10**9)
    take(far, 1)
    assert 1 <= len(drawn) <= 4
    with pytest.raises(ValueError, match='cannot start at iteration -1'):
        sampler.set_start(-1)


def test_seeds(semi):
    assert take(build(semi, 2, 2), 20) == take(build(semi, 2, 2), 20)
    assert take(build(semi, 2, 2), 20) != take(build(semi, 2, 2, seed=6), 20)
    own = SemiBatchSampler(InfiniteSampler(semi, seed=5), 4, 2, 2, seed=6)
    assert take(own, 20) == take(build(semi, 2, 2, seed=6), 20)
    drawn = SemiBatchSampler(InfiniteSampler(semi), 4, 2, 2)  # mmengine draws a seed
    assert drawn.seed == drawn.sampler.seed
    with pytest.raises(ValueError, match='seed=-1'):
        SemiBatchSampler(InfiniteSampler(semi, seed=5), 4, 2, 2, seed=-1)


def test_the_order_is_frozen():
    """A resumed run must go on with the same images under any numpy: written down, not computed."""
    from mmseg_esl.datasets.sampler import permutation
    assert permutation(8, 0, 0, 0).tolist() == FROZEN[0]
    assert permutation(8, 123, 1, 4).tolist() == FROZEN[1]


@pytest.mark.parametrize('labeled, unlabeled, world, length', [
    (1, 1, 1, 7), (1, 2, 1, 4), (2, 2, 2, 2), (3, 8, 1, 1), (1, 0, 1, 4), (3, 0, 1, 2)
])
def test_length_is_one_pass(semi, labeled, unlabeled, world, length):
    sampler = build(semi, labeled, unlabeled, world=world)
    assert len(sampler) == length
    if unlabeled:
        flat = [i for rank in range(world)
                for batch in take(build(semi, labeled, unlabeled, rank, world), length)
                for i in batch[labeled:]]
        assert set(flat) == set(range(4, 11))


def test_count_errors(semi):
    sampler = InfiniteSampler(semi, seed=0)
    with pytest.raises(ValueError, match=r'make 5, but batch_size=4\. Set train_dataloader\.batch_'
                       'size=5'):
        SemiBatchSampler(sampler, 4, 2, 3)
    for counts in ((0, 4), (5, -1)):
        with pytest.raises(ValueError, match=r'set num_labeled >= 1 and num_unlabeled >= 0'):
            SemiBatchSampler(sampler, 4, *counts)


@pytest.mark.parametrize('unlabeled', [8, 4, 0])
@pytest.mark.parametrize('world', [1, 2, 4])
def test_totals_hold_on_any_number_of_ranks(semi, unlabeled, world):
    """All ranks' batches together are those of one rank, image by image."""
    def images(world, **counts):
        samplers = [build(semi, 8, unlabeled, rank, world, **counts) for rank in range(world)]
        batches = list(zip(*(take(sampler, 9) for sampler in samplers)))
        share = 8 // world
        return [(sum((batch[:share] for batch in step), []), sum((b[share:] for b in step), []))
                for step in batches], samplers

    expected, _ = images(1)
    found, samplers = images(world, kind='total')
    assert found == expected
    assert all(s.batch_size == len(take(s, 1)[0]) == (8 + unlabeled) // world for s in samplers)


def test_totals_that_cannot_be_shared(semi):
    with pytest.raises(ValueError, match=r'3 processes cannot share total_labeled=8 and '
                       r'total_unlabeled=8 .* Start 1 or 2 or 4 or 8 processes.*multiples of 3'):
        build(semi, 8, 8, world=3, kind='total')
    with pytest.raises(ValueError, match='Start 1 or 2 processes'):
        build(semi, 8, 2, world=4, kind='total')
    sampler = InfiniteSampler(semi, seed=0)
    with pytest.raises(ValueError, match=r'total_unlabeled=8 make 16, but batch_size=8\. Set '
                       r'train_dataloader\.batch_size=16'):
        SemiBatchSampler(sampler, 8, total_labeled=8, total_unlabeled=8)
    with pytest.raises(ValueError, match='set total_labeled >= 1 and total_unlabeled >= 0'):
        SemiBatchSampler(sampler, 8, total_labeled=0, total_unlabeled=8)


@pytest.mark.parametrize('counts', [
    {}, dict(num_labeled=2), dict(total_unlabeled=2),
    dict(num_labeled=2, num_unlabeled=2, total_labeled=8, total_unlabeled=8),
    dict(num_labeled=2, total_labeled=8, total_unlabeled=8)])
def test_one_kind_of_counts(semi, counts):
    with pytest.raises(ValueError, match='either num_labeled and num_unlabeled .* or '
                       'total_labeled and total_unlabeled'):
        SemiBatchSampler(InfiniteSampler(semi, seed=0), 4, **counts)


def test_supervised_only(data):
    semi = SemiDataset(data.labeled_cfg(), None)
    assert len(semi) == semi.num_labeled == 4 and semi.num_unlabeled == 0
    batches = take(SemiBatchSampler(InfiniteSampler(semi, seed=0), 2, 2, 0), 2)
    assert sorted(sum(batches, [])) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match='no unlabelled set.*num_unlabeled=0'):
        SemiBatchSampler(InfiniteSampler(semi, seed=0), 2, 1, 1)


def test_other_datasets_are_named(data):
    dataset = DATASETS.build(data.labeled_cfg())
    with pytest.raises(TypeError, match="DefaultSampler holds a BaseSegDataset: use dataset=dict"):
        SemiBatchSampler(DefaultSampler(dataset), 2, 1, 1)
    with pytest.raises(TypeError, match='remove num_batch_per_epoch'):
        Runner.build_dataloader(loader_cfg(data, 1, 1, num_batch_per_epoch=2), seed=0)


def loader_cfg(data, labeled, unlabeled, workers=0, **kwargs):
    return dict(
        batch_size=labeled + unlabeled,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        batch_sampler=dict(
            type='SemiBatchSampler', num_labeled=labeled, num_unlabeled=unlabeled),
        dataset=data.semi_cfg(),
        **kwargs)


@pytest.mark.parametrize('labeled, unlabeled, workers', [(1, 1, 0), (1, 3, 2), (3, 2, 0)])
def test_through_the_runner(data, labeled, unlabeled, workers):
    loader = Runner.build_dataloader(loader_cfg(data, labeled, unlabeled, workers), seed=3)
    expected = naive(labeled, unlabeled, 1, 12, 3, True)[0]
    paths = [loader.dataset.get_data_info(i)['img_path'] for i in range(11)]
    for indices, batch in zip(expected, loader):
        samples = batch['data_samples']
        assert [s.img_path for s in samples] == [paths[i] for i in indices]
        assert [s.labeled for s in samples] == [True] * labeled + [False] * unlabeled
        assert len(batch['inputs']) == labeled + unlabeled
        for sample in samples[labeled:]:
            assert 'seg_map_path' not in sample and not sample.gt_sem_seg.data.any()
