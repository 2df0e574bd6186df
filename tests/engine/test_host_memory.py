"""The main memory of a training, against the kernel's list of its pages."""
from __future__ import annotations

import multiprocessing
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mmseg_esl.engine import host_memory as module
from mmseg_esl.engine.host_memory import host_memory

PAGES = f'/proc/{os.getpid()}/smaps_rollup'
on_linux = pytest.mark.skipif(not os.path.exists(PAGES), reason='the kernel does not say it')
HELD = 96 * 2 ** 20


def own() -> float:
    """MB of this process, mapping by mapping."""
    with open('/proc/self/smaps') as file:
        return sum(int(line.split()[1]) for line in file if line.startswith('Pss:')) / 1024


def hold(ready, end):
    pages = np.ones(HELD, np.uint8)  # written, or they would not be there
    ready.set()
    end.wait(30)
    del pages


@on_linux
def test_this_process_and_its_children():
    before = host_memory()
    assert before == pytest.approx(own(), rel=0.05)
    context = multiprocessing.get_context('fork')
    ready, end = context.Event(), context.Event()
    child = context.Process(target=hold, args=(ready, end))
    child.start()
    assert ready.wait(30)
    during = host_memory()
    end.set()
    child.join()
    assert during - before == pytest.approx(HELD / 2 ** 20, abs=30)
    assert host_memory() == pytest.approx(before, abs=30)


@on_linux
def test_a_child_that_has_ended_counts_for_nothing(monkeypatch):
    alone = host_memory()
    gone = SimpleNamespace(pid=2 ** 22 + 1)  # no process has it
    monkeypatch.setattr(multiprocessing, 'active_children', lambda: [gone])
    assert host_memory() == pytest.approx(alone, rel=0.02)


@pytest.mark.parametrize('system, unit', [('linux', 1024), ('darwin', 1)])
def test_where_the_kernel_does_not_say_it(monkeypatch, system, unit):
    """The most that this process has held, which macOS gives in bytes and others in kilobytes."""
    resource = pytest.importorskip('resource')

    def unreadable(self):
        raise FileNotFoundError(str(self))

    monkeypatch.setattr(module.Path, 'read_text', unreadable)
    monkeypatch.setattr(sys, 'platform', system)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert host_memory() == pytest.approx(most * unit / 2 ** 20, rel=0.02)
    monkeypatch.setattr(module, 'resource', None)  # as on Windows
    assert host_memory() == 0.0


def test_the_proportional_share_is_what_counts(monkeypatch):
    text = 'Rss:  9000 kB\nPss:  3072 kB\nPss_Anon:  1000 kB\n'
    monkeypatch.setattr(multiprocessing, 'active_children', list)
    monkeypatch.setattr(module.Path, 'read_text', lambda self: text)
    assert host_memory() == 3
