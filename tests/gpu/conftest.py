"""Tests that need a GPU. ``MMSEG_ESL_REHEARSAL=1`` runs a few of them on the CPU, as they are."""
import sys
from pathlib import Path

import pytest
import torch
from rehearsal import REHEARSAL

sys.path.insert(0, str(Path(__file__).parents[1] / 'methods'))  # every.py


@pytest.fixture
def device() -> str:
    if REHEARSAL:
        return 'cpu'
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    return 'cuda'


@pytest.fixture
def exact():
    """Without TF32, whose results differ from float32's in the fourth digit."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [b.allow_tf32 for b in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, value in zip(backends, before):
        backend.allow_tf32 = value
