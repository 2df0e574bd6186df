"""Time, operations, waits and memory of a piece of work: forward and backward."""
from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from .counting import SyncCounter

ROOT = Path(__file__).resolve().parents[2]


class Work:
    """Something to be measured.

    Args:
        forward: returns a loss to back-propagate, or anything else where there is none.
        leaves: tensors whose gradients are thrown away after each run.
    """

    def __init__(self, forward: Callable, leaves=()):
        self.forward, self.leaves = forward, list(leaves)

    def __call__(self) -> None:
        loss = self.forward()
        if torch.is_tensor(loss) and loss.requires_grad:
            loss.backward()
        del loss
        for leaf in self.leaves:
            leaf.grad = None


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable) -> float:
    """On one thread of a CPU those that it computed, whatever ran beside; else by the clock."""
    alone = not torch.cuda.is_available() and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    synchronise()
    start = clock()
    work()
    synchronise()
    return clock() - start


def alternate(works: dict[str, Callable], rounds: int, limit: float = 120) -> dict:
    """Seconds of each work in each round, A B A B, after one round that is not counted.

    A machine that grows slower for a while then slows all of them, and the ratio stays. After
    ``limit`` seconds three rounds are enough.
    """
    for work in works.values():
        work()
    times = {name: [] for name in works}
    start = time.perf_counter()
    for i in range(rounds):
        if i >= 3 and time.perf_counter() - start > limit:
            break
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    """Median over the rounds of one work's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(times[name], times[to]))


def count(work: Work) -> dict:
    """Operators dispatched (forward, and with backward), and those that wait for the device."""
    with SyncCounter() as counter:
        loss = work.forward()
        forward = counter.all
        if torch.is_tensor(loss) and loss.requires_grad:
            loss.backward()
    for leaf in work.leaves:
        leaf.grad = None
    return dict(forward=forward, operations=counter.all, waits=sum(counter.waits.values()),
                waits_by_name=dict(counter.waits))


def peak_memory(work: Callable) -> int:
    """Most bytes held at one moment beyond what was held before.

    On a GPU as PyTorch's allocator has it; on a CPU from the allocations and frees that
    torch.profiler records, which are those of every tensor, scratch within operators included.
    """
    if torch.cuda.is_available():
        synchronise()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        synchronise()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(works: dict[str, Work], rounds: int, ours: str = 'ours') -> dict:
    """All figures of each work; ``ratio`` is its time over that of ``ours``."""
    times = alternate(works, rounds)
    out = {}
    for name, work in works.items():
        out[name] = dict(seconds=statistics.median(times[name]), ratio=ratio(times, name, ours),
                         memory=peak_memory(work), **count(work))
    return out


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if int(text) < 1:
        raise ValueError
    return int(text)


# ------------------------------------------------------------------------------- where and what


def machine(device: str) -> dict:
    """What a reader has to know about the run: machine, how busy it was, versions, commit."""
    name = platform.processor() or platform.machine()
    cores = '?'
    info = Path('/proc/cpuinfo')
    if info.is_file():
        lines = info.read_text().splitlines()
        models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
        name, cores = (models or [name])[0], len(models)
    gpu = torch.cuda.get_device_name() if device == 'cuda' else None
    return dict(cpu=name, cores=cores, threads=torch.get_num_threads(), gpu=gpu,
                torch=torch.__version__, python=platform.python_version(), commit=commit(),
                load=os.getloadavg()[0] if hasattr(os, 'getloadavg') else None)


def commit() -> str:
    """Short hash, '+' behind it where tracked code differs from it; '?' outside of a clone, and
    without git."""
    def git(*args):
        return subprocess.run(['git', '-C', str(ROOT), *args], text=True, capture_output=True)

    try:
        head = git('rev-parse', '--short', 'HEAD')
    except OSError:
        return '?'
    if head.returncode:
        return '?'
    changed = git('status', '--porcelain', '-uno', '--', 'mmseg_esl', 'dev', 'configs').stdout
    return head.stdout.strip() + ('+' if changed.strip() else '')


@contextmanager
def threads(num: int):
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
