"""How much main memory is held: by the kernel's own figure, and without it."""
import os
import resource
from pathlib import Path

import pytest

from mmseg_esl.engine import host_memory as module
from mmseg_esl.engine.host_memory import host_memory

ROLLUP = 'Rss:  9000 kB\nPss:  3072 kB\nPss_Anon:  1000 kB\n'


def test_it_grows_by_what_is_held():
    before = host_memory()
    held = bytearray(os.urandom(2 ** 20) * 64)  # MB
    assert host_memory() - before == pytest.approx(64, abs=8) and len(held)


def test_the_kernels_figure(monkeypatch):
    monkeypatch.setattr(module.multiprocessing, 'active_children', list)
    monkeypatch.setattr(Path, 'read_text', lambda self: ROLLUP)
    assert host_memory() == 3


def test_a_child_that_has_ended_holds_nothing(monkeypatch):
    class Child:
        pid = 0

    def read(self):
        if f'/{os.getpid()}/' not in str(self):
            raise FileNotFoundError(self)
        return ROLLUP

    monkeypatch.setattr(module.multiprocessing, 'active_children', lambda: [Child()])
    monkeypatch.setattr(Path, 'read_text', read)
    assert host_memory() == 3


@pytest.mark.parametrize('platform, unit', [('linux', 2 ** 10), ('darwin', 1)])
def test_where_the_kernel_does_not_say(monkeypatch, platform, unit):
    """The most so far, which Linux gives in kB and macOS in bytes."""
    def read(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, 'read_text', read)
    monkeypatch.setattr(module.sys, 'platform', platform)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert host_memory() == pytest.approx(most * unit / 2 ** 20, rel=1e-4)
    monkeypatch.setattr(module, 'resource', None)
    assert host_memory() == 0
