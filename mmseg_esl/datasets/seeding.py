"""Random numbers of a sample: a function of which draw of the run it is, of nothing before it."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch


class Draw(int):
    """Index of an image that knows which draw of the run it is.

    Args:
        index: of the image in a SemiDataset, as which it counts wherever an int is expected.
        seed, stream, position: of the run; labelled or unlabelled; number of the draw in it.
    """

    def __new__(cls, index: int, seed: int, stream: int, position: int) -> Draw:
        self = super().__new__(cls, index)
        self.key = (seed, stream, position)
        return self

    def __getnewargs__(self) -> tuple:  # it travels to the loader's workers
        return (int(self), *self.key)


def seed_generators(*key: int) -> None:
    """Seed ``random``, ``numpy.random`` and torch's CPU generator from integers >= 0.

    numpy's SeedSequence makes neighbouring keys independent, and its output is frozen.
    """
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(int.from_bytes(words[:4].tobytes(), 'little'))
    np.random.seed(words[4:6])
    # torch.manual_seed would seed the GPUs too
    torch.default_generator.manual_seed(int(words[6]) << 32 | int(words[7]))


def generator_states() -> tuple:
    """States of ``random``, ``numpy.random`` and torch's CPU generator, as they give them."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def set_generator_states(states: tuple) -> None:
    """Put back what :func:`generator_states` gave."""
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@contextmanager
def seeded(index: int) -> Iterator[None]:
    """Seed the three generators for one sample, if ``index`` is a Draw, and put them back after.

    So an augmentation depends neither on the number of workers nor on what they loaded before
    (our choice), and with ``num_workers=0`` training draws the same numbers as with workers.
    """
    key = getattr(index, 'key', None)
    if key is None:
        yield
        return
    before = generator_states()
    seed_generators(*key)
    try:
        yield
    finally:
        set_generator_states(before)
