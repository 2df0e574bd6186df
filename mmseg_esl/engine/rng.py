"""The random state of this process, as a checkpoint can hold it."""
from __future__ import annotations

import numpy as np
import torch

from ..datasets.seeding import generator_states, seed_generators, set_generator_states


def rng_state() -> dict:
    """States of ``random``, ``numpy.random``, torch's CPU and its current GPU's generator.

    Plain containers and CPU tensors, so that ``torch.load(weights_only=True)`` reads them.
    """
    python, numpy, cpu = generator_states()
    version, words, gauss = python
    name, keys, position, has_gauss, cached = numpy
    state = dict(
        python=dict(version=version, words=torch.tensor(words), gauss=gauss),
        numpy=dict(name=str(name), keys=torch.from_numpy(keys.astype(np.int64)),
                   position=int(position), has_gauss=int(has_gauss), cached=float(cached)),
        torch=cpu)
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict) -> None:
    """Put back what :func:`rng_state` gave; a GPU's state is left out where there is no GPU."""
    python, numpy = state['python'], state['numpy']
    set_generator_states((
        (python['version'], tuple(python['words'].tolist()), python['gauss']),
        (numpy['name'], numpy['keys'].cpu().numpy().astype(np.uint32), numpy['position'],
         numpy['has_gauss'], numpy['cached']),
        state['torch'].cpu()))  # a checkpoint is loaded to the GPU
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def seed_all(*key: int) -> None:
    """Seed all of them from integers >= 0, independently of other keys."""
    seed_generators(*key)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(torch.initial_seed())
