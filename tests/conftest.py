"""Shared by all tests: the compatibility layer, one thread, a fixed seed."""

import gc
import os
import signal
import sys
from functools import lru_cache

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# for the processes that tests start: the package without being installed, one thread each
os.environ['PYTHONPATH'] = os.pathsep.join(
    filter(None, [ROOT, os.environ.get('PYTHONPATH', '')]))
os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path.insert(0, ROOT)
sys.path += [os.path.join(ROOT, 'dev'), os.path.join(ROOT, 'tools')]  # dev/bench, tools/train.py

# A shell that starts pytest in the background lets it, and all that it starts, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

from mmseg_esl import stack  # noqa: E402

stack.install()  # before any test module imports mmseg

import mmengine.config.config as reading  # noqa: E402
import mmengine.config.utils as lookup  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

# Where a config inherits from mmseg, mmengine reads all of mmseg's index anew each time (half a
# second), and for every config of a scope it loads pkg_resources anew, twice (as long as the rest
# of reading it). Neither index nor packages change while tests run.
lookup.load = lru_cache(maxsize=None)(lookup.load)
reading.is_installed = lru_cache(maxsize=None)(reading.is_installed)

# The tensors of the tests are tiny: a second thread costs more than it brings, and sums come out in
# the same order on every machine.
torch.set_num_threads(1)


# mmengine collects garbage for every data set that it builds, which takes as long as a training
# step or three among all that imports, collected tests and the files before leave: let it look at
# what comes after.
FROZEN = dict(modules=0)


def freeze():
    gc.collect()
    gc.freeze()
    FROZEN['modules'] = len(sys.modules)


def pytest_collection_finish():
    freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """After each file, and after a test that imported much: a first step brings 600 modules."""
    if nextitem is None or nextitem.path != item.path or len(sys.modules) > FROZEN['modules'] + 50:
        freeze()


@pytest.fixture(autouse=True)
def _seeded():
    """Every test draws the same numbers, whichever tests ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _signals_given_back():
    """A training that has ended, however it did, leaves Ctrl-C to the program around it."""
    yield
    found = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert found == (signal.default_int_handler, signal.SIG_DFL)
