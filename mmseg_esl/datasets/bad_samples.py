"""Samples that cannot be used: a named error, or a counted replacement."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Callable, Iterator

import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

from .seeding import generator_states, set_generator_states

SHOWN = 20  # bad files listed in the last error


class BadDataError(ValueError):
    """A file of the data set cannot be used; the message names it, the cause and the remedy."""


class BadSamples:
    """Fetches samples of a SemiDataset; says which one failed, or takes another.

    Which samples failed stands in memory that all loader workers of a process share, one byte a
    sample: writing it twice changes nothing, so the count needs no lock. Each rank counts its own.

    Args:
        dataset: the SemiDataset, its lists loaded.
        on_error: 'raise' or 'skip'.
        max_skips: how many different images may fail before 'skip' raises as well.

    Raises:
        ValueError: an unknown ``on_error``, a negative ``max_skips``.
    """

    def __init__(self, dataset, on_error: str = 'raise', max_skips: int = 10) -> None:
        check_options(on_error, max_skips)
        self.on_error, self.max_skips = on_error, max_skips
        self.info = dataset.get_data_info
        self.num_labeled, self.num_unlabeled = dataset.num_labeled, dataset.num_unlabeled
        size = self.num_labeled + self.num_unlabeled
        self.bad = torch.zeros(size, dtype=torch.uint8).share_memory_()

    def __call__(self, fetch: Callable[[int], dict], index: int) -> dict:
        """``fetch(index)`` or, in its place, of the next image in the list that can be used.

        The replacement comes from the same set and depends on the files alone, and it sees the
        random numbers that the failed one would have seen: a resumed run draws the same.

        Args:
            fetch: from an index of the SemiDataset to its sample; raises BadDataError.
            index: 0 <= index < size of the SemiDataset.

        Raises:
            BadDataError: the sample cannot be used ('raise'), or too many cannot ('skip').
        """
        if self.on_error == 'raise':
            return fetch(index)
        for candidate in self._candidates(index):
            if self.bad[candidate]:
                continue
            state = generator_states()
            try:
                return fetch(candidate)
            except BadDataError as error:
                set_generator_states(state)
                self._count(candidate, error)
        raise BadDataError('SemiDataset: no image of the '
                           f'{self._which(index)} set can be used. {self._list()}')

    def skipped(self) -> list[str]:
        """The different images that were left out so far, by all workers of this process."""
        indices = self.bad.nonzero().flatten().tolist()
        return sorted({self._path(index) for index in indices})

    @contextmanager
    def naming(self, index: int) -> Iterator[None]:
        """Turn whatever goes wrong inside into a BadDataError that names the image."""
        try:
            yield
        except BadDataError:
            raise
        except Exception as error:
            raise BadDataError(
                f"SemiDataset: the {self._which(index)} image '{self._path(index)}' cannot be "
                f'used: {type(error).__name__}: {error}. Repair it or take it from the list; '
                "on_error='skip' of the SemiDataset leaves such images out") from error

    def _candidates(self, index: int) -> Iterator[int]:
        first, size = ((0, self.num_labeled) if index < self.num_labeled else
                       (self.num_labeled, self.num_unlabeled))
        for step in range(size):
            yield first + (index - first + step) % size

    def _count(self, index: int, error: BadDataError) -> None:
        known = self.skipped()
        self.bad[index] = 1
        path, now = self._path(index), self.skipped()
        if path not in known:
            print_log(f'{error} [left out: {len(now)} of at most {self.max_skips}]', 'current',
                      logging.WARNING)
        if len(now) > self.max_skips:
            raise BadDataError(f'SemiDataset: {len(now)} images cannot be used, more than '
                               f'max_skips={self.max_skips}. {self._list()} The last: {error}')

    def _list(self) -> str:
        paths = self.skipped()
        more = f' and {len(paths) - SHOWN} more' if len(paths) > SHOWN else ''
        return ('Repair them, or take them from the lists: '
                + ', '.join(f"'{path}'" for path in paths[:SHOWN]) + more + '.')

    def _which(self, index: int) -> str:
        return 'labelled' if index < self.num_labeled else 'unlabelled'

    def _path(self, index: int) -> str:
        return str(self.info(index).get('img_path', f'number {index}'))


class ReadAgain(Dataset):
    """Another reading of a SemiDataset's labelled images, under the same guard.

    Args:
        guard: the SemiDataset's.
        dataset: its labelled images in their order, with another pipeline.
    """

    def __init__(self, guard: BadSamples, dataset: Dataset) -> None:
        self.bad_samples, self.dataset = guard, dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self.bad_samples(self._fetch, index)

    def _fetch(self, index: int) -> dict:
        with self.bad_samples.naming(index):
            return self.dataset[index]


def check_options(on_error: str, max_skips: int) -> None:
    """Raise ValueError for options that mean nothing."""
    if on_error not in ('raise', 'skip'):
        raise ValueError(f"SemiDataset: on_error='{on_error}'. Set 'raise' or 'skip'")
    if max_skips < 0:
        raise ValueError(f'SemiDataset: max_skips={max_skips}. Set 0 or more')
