"""Batches of L labelled and U unlabelled images."""

from __future__ import annotations

from typing import Iterator

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from .seeding import Draw
from .semi import SemiDataset

LABELED, UNLABELED = 0, 1  # the two streams


def permutation(n: int, seed: int, stream: int, number: int) -> np.ndarray:
    """Order (n,) int64 of pass ``number`` over a stream of ``n`` images.

    A pure function of its arguments. numpy's legacy generator, because its output is frozen: a
    run resumed under another numpy or torch continues with the same images.
    """
    words = np.random.SeedSequence([seed, stream, number])
    return np.random.RandomState(np.random.MT19937(words)).permutation(n)


LARGE = 2 ** 24  # images beyond which the order of a pass is computed place by place, not held


class Scattered:
    """As :func:`permutation`, for sets of any size: image by image, in no memory.

    A bijection of [0, n): a Feistel network on the next power of four, followed until it falls
    inside. Whole numbers only, so that it is the same everywhere.
    """

    def __init__(self, n: int, seed: int, stream: int, number: int) -> None:
        self.n, self.half = n, ((n - 1).bit_length() + 1) // 2
        self.keys = np.random.SeedSequence([seed, stream, number]).generate_state(
            8, np.uint64).tolist()

    def __getitem__(self, position: int) -> int:
        half, mask, word = self.half, (1 << self.half) - 1, (1 << 64) - 1
        while True:
            left, right = position >> half, position & mask
            for key in self.keys:
                mixed = (right + key) * 0x9e3779b97f4a7c15 & word
                mixed = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9 & word
                left, right = right, left ^ (mixed >> 32 & mask)
            position = left << half | right
            if position < self.n:
                return position


class _Stream:
    """An endless sequence of passes over ``n`` images, readable from any position."""

    def __init__(self, n: int, seed: int, stream: int, shuffle: bool) -> None:
        self.n, self.seed, self.stream, self.shuffle = n, seed, stream, shuffle
        self._passes: dict = {}

    def read(self, start: int, count: int) -> list[int]:
        """The images at positions ``start`` ... ``start + count - 1``."""
        return [self._at(*divmod(position, self.n)) for position in range(start, start + count)]

    def _at(self, number: int, offset: int) -> int:
        if not self.shuffle:
            return offset
        if number not in self._passes:
            # a batch may straddle two passes: keep the one before, no more
            self._passes = {k: v for k, v in self._passes.items() if k == number - 1}
            order = permutation if self.n <= LARGE else Scattered
            self._passes[number] = order(self.n, self.seed, self.stream, number)
        return int(self._passes[number][offset])


@DATA_SAMPLERS.register_module()
class SemiBatchSampler(Sampler):
    """Endless batches of L labelled, then U unlabelled indices.

    How many is said either per rank, by ``num_labeled`` and ``num_unlabeled``, or for all ranks
    together, by ``total_labeled`` and ``total_unlabeled``: then a step has as many images on any
    number of GPUs.

    Each of the two sets is a stream of seeded permutations, one after the other. At iteration t
    rank r of W reads positions (t * W + r) * L ... + L - 1 of the labelled stream (U likewise), so
    the ranks share each pass without repeating an image, and any iteration is computed directly,
    without replaying those before it (our choice; the paper is silent). An index is a
    :class:`Draw`, which tells SemiDataset seed, stream and position, the seed of the sample's
    augmentation.

    To be used beside ``sampler=dict(type='InfiniteSampler', shuffle=True)``, with
    ``SemiTrainLoop``: like InfiniteSampler's, its batches never end. With mmengine's
    ``IterBasedTrainLoop`` the batches are the same, but a resumed run loads all those before again.

    Args:
        sampler: gives dataset, seed, rank, world size and shuffle; is not drawn from.
        batch_size: the sum of the two counts: per rank with ``num_*``, of all ranks together with
            ``total_*``. (The attribute of this name is per rank.)
        num_labeled: L >= 1 of a rank.
        num_unlabeled: U >= 0 of a rank; 0 gives a supervised-only run.
        seed: None takes the sampler's, which mmengine makes equal on all ranks.
        total_labeled, total_unlabeled: L and U of all ranks together, multiples of the number of
            ranks.

    Raises:
        TypeError: the sampler's dataset is not a SemiDataset.
        ValueError: counts that are out of range, do not add up or cannot be shared by the ranks,
            or of both kinds.
    """

    def __init__(self,
                 sampler: Sampler,
                 batch_size: int,
                 num_labeled: int | None = None,
                 num_unlabeled: int | None = None,
                 seed: int | None = None,
                 total_labeled: int | None = None,
                 total_unlabeled: int | None = None) -> None:
        dataset = getattr(sampler, 'dataset', None)
        _check_dataset(sampler, dataset)
        rank, world_size = get_dist_info()
        self.sampler = sampler  # mmengine looks for it here
        self.rank = getattr(sampler, 'rank', rank)
        self.world_size = getattr(sampler, 'world_size', world_size)
        self.num_labeled, self.num_unlabeled = counts_per_rank(
            self.world_size, batch_size, num_labeled, num_unlabeled, total_labeled,
            total_unlabeled)
        if self.num_unlabeled and not dataset.num_unlabeled:
            raise ValueError('SemiBatchSampler: unlabelled images are asked for, but the '
                             'SemiDataset has no unlabelled set. Give it unlabeled=..., or set '
                             'num_unlabeled=0 (or total_unlabeled=0)')
        self.batch_size = self.num_labeled + self.num_unlabeled
        self.dataset_sizes = (dataset.num_labeled, dataset.num_unlabeled)
        self.shuffle = getattr(sampler, 'shuffle', True)
        seed = getattr(sampler, 'seed', None) if seed is None else seed
        self._set_seed(int(sync_random_seed() if seed is None else seed))
        # an iteration, and what all ranks had taken from each stream before it
        self._origin = (0, 0, 0)
        self.start = 0

    def _set_seed(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f'SemiBatchSampler: seed={seed} is negative. Set a seed >= 0')
        self.seed = seed
        self._labeled, self._unlabeled = (
            _Stream(size, seed, stream, self.shuffle)
            for size, stream in zip(self.dataset_sizes, (LABELED, UNLABELED)))

    def set_start(self, iteration: int) -> None:
        """Let the next ``iter()`` begin with the batch of ``iteration`` (>= 0), at no cost.

        A DataLoader's iterator that exists already has drawn batches ahead: make a new one.
        """
        if iteration < 0:
            raise ValueError(f'SemiBatchSampler: cannot start at iteration {iteration}. Give the '
                             'number of iterations already trained, 0 or more')
        self.start = int(iteration)

    def consumed(self, iteration: int) -> tuple[int, int]:
        """Labelled and unlabelled samples that all ranks have taken before ``iteration``."""
        first, labeled, unlabeled = self._origin
        # what lies before the origin is only ever read to be thrown away (IterBasedTrainLoop)
        turns = max(0, iteration - first) * self.world_size
        return labeled + turns * self.num_labeled, unlabeled + turns * self.num_unlabeled

    def state_dict(self, iteration: int) -> dict:
        """What another sampler needs to go on at ``iteration``: seed and samples consumed."""
        labeled, unlabeled = self.consumed(iteration)
        return dict(seed=self.seed, iteration=iteration, labeled=labeled, unlabeled=unlabeled)

    def load_state_dict(self, state: dict) -> None:
        """Let each stream continue behind the samples consumed, with the seed of ``state``.

        Holds also if the number of ranks or of images per batch is another one since. It moves no
        iterator that exists already, and not the start: see :meth:`set_start`.
        """
        self._set_seed(int(state['seed']))
        self._origin = tuple(int(state[key]) for key in ('iteration', 'labeled', 'unlabeled'))

    def batch(self, iteration: int) -> list[Draw]:
        """The ``batch_size`` indices of this rank at ``iteration``, labelled first."""
        labeled, unlabeled = self.consumed(iteration)
        return [*self._draws(self._labeled, labeled, self.num_labeled, 0),
                *self._draws(self._unlabeled, unlabeled, self.num_unlabeled,
                             self.dataset_sizes[0])]

    def _draws(self, stream: _Stream, taken: int, count: int, offset: int) -> Iterator[Draw]:
        start = taken + self.rank * count
        for position, index in enumerate(stream.read(start, count), start):
            yield Draw(offset + index, self.seed, stream.stream, position)

    def __iter__(self) -> Iterator[list[Draw]]:
        iteration = self.start
        while True:
            yield self.batch(iteration)
            iteration += 1

    def __len__(self) -> int:
        """Iterations in one pass over the unlabelled set (the labelled one if there is no U)."""
        size, per_rank = self.dataset_sizes[1], self.num_unlabeled
        if not per_rank:
            size, per_rank = self.dataset_sizes[0], self.num_labeled
        return -(-size // (per_rank * self.world_size))


def _check_dataset(sampler: object, dataset: object) -> None:
    if isinstance(dataset, SemiDataset):
        return
    name = type(dataset).__name__
    remedy = ('remove num_batch_per_epoch from the dataloader, which wraps the dataset'
              if name == '_SlicedDataset' else
              "use dataset=dict(type='SemiDataset', labeled=..., unlabeled=...), and "
              "sampler=dict(type='InfiniteSampler', shuffle=True) beside batch_sampler")
    raise TypeError(f'SemiBatchSampler needs a SemiDataset, but the sampler '
                    f'{type(sampler).__name__} holds a {name}: {remedy}')


def counts_per_rank(world_size: int, batch_size: int | None, num_labeled: int | None = None,
                    num_unlabeled: int | None = None, total_labeled: int | None = None,
                    total_unlabeled: int | None = None) -> tuple[int, int]:
    """(L, U) of one rank, from the arguments of SemiBatchSampler.

    Raises:
        ValueError: see SemiBatchSampler.
    """
    kinds = {'num': (num_labeled, num_unlabeled), 'total': (total_labeled, total_unlabeled)}
    given = [kind for kind, pair in kinds.items() if pair != (None, None)]
    if len(given) != 1 or None in kinds[given[0]]:
        raise ValueError(
            f'SemiBatchSampler: num_labeled={num_labeled}, num_unlabeled={num_unlabeled}, '
            f'total_labeled={total_labeled}, total_unlabeled={total_unlabeled}: set either '
            'num_labeled and num_unlabeled (of a rank) or total_labeled and total_unlabeled (of '
            'all ranks together), both of the two')
    kind = given[0]
    labeled, unlabeled = kinds[kind]
    if labeled < 1 or unlabeled < 0:
        raise ValueError(f'SemiBatchSampler: {kind}_labeled={labeled}, {kind}_unlabeled='
                         f'{unlabeled}: set {kind}_labeled >= 1 and {kind}_unlabeled >= 0')
    if labeled + unlabeled != batch_size:
        raise ValueError(
            f'SemiBatchSampler: {kind}_labeled={labeled} and {kind}_unlabeled={unlabeled} make '
            f'{labeled + unlabeled}, but batch_size={batch_size}. Set '
            f'train_dataloader.batch_size={labeled + unlabeled}, or change the two counts')
    if kind == 'num':
        return labeled, unlabeled
    if labeled % world_size or unlabeled % world_size:
        fits = [n for n in range(1, labeled + 1) if labeled % n == 0 == unlabeled % n]
        raise ValueError(
            f'SemiBatchSampler: {world_size} processes cannot share total_labeled={labeled} and '
            f'total_unlabeled={unlabeled} images evenly. Start '
            f'{" or ".join(map(str, fits))} processes (GPUs), or set both totals (and '
            f'train_dataloader.batch_size, their sum) to multiples of {world_size}')
    return labeled // world_size, unlabeled // world_size
