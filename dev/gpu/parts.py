"""The parts of dev/gpu/run.py, which starts this: ``parts.py OUT PART ... [--rehearse]``."""
from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'dev'), str(ROOT / 'tools')]

import cli_common  # noqa: F401 - finds the package and mends the stack
import torch
from bench import floors, loading, models
from bench import gpu as settings_of

from gpu.report import BEGUN, DONE, append, rows
from mmseg_esl.conversion.config import methods

FIRST = ('esl', 'unimatch', 'supervised', 'esl_plus', 'fixmatch', 'unimatch_v2', 'u2pl')
Item = tuple  # (key, function that gives a row)
LOST = 9  # exit code
SLOW = 'test_compiled'  # 46 s of an H200's first run


class Sizes:
    """How large everything is: as users train, or as a CPU can rehearse it."""

    def __init__(self, rehearse: bool):
        self.rehearse, self.device = rehearse, 'cpu' if rehearse else 'cuda'
        self.depth, self.crop, self.classes = (18, 33, 3) if rehearse else (50, 513, 19)
        self.batches = (2,) if rehearse else (8, 4)  # images of each kind; the next if too many
        self.rounds, self.warmup = (1, 0) if rehearse else (5, 3)  # of a setting
        first = [name for name in FIRST if name in methods()]
        self.methods = ['esl'] if rehearse else [*first, *(
            name for name in methods() if name not in first)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('parts', nargs='+', choices=list(PARTS))
    parser.add_argument('--rehearse', action='store_true')
    args = parser.parse_args()
    if args.rehearse:
        torch.set_num_threads(1)
    for name in args.parts:
        do(name, PARTS[name](Sizes(args.rehearse), args.out), args.out)


def do(name: str, items: Iterator[Item], out: Path) -> None:
    """Measure what no earlier start has measured, then what failed there; say when all is done."""
    known = rows(out, name)
    append(out, name, None)  # behind a line that was cut
    for key, measure in sorted(items, key=lambda item: item[0] in known):
        if key in known and not known[key].get('failed'):
            continue
        # stays the last word of what takes the process with it, so that others come first then
        append(out, name, dict(key=key, failed=BEGUN))
        begin = time.perf_counter()
        try:
            row = measure()
        except Exception as error:  # the next one may do
            row = dict(failed=f'{type(error).__name__}: {str(error).strip()[:300]}')
        append(out, name, dict(key=key, **row, spent=time.perf_counter() - begin))
        print(name, key, row.get('failed', 'ok'), flush=True)
        if row.get('failed'):
            leave_if_lost()
        free()
    append(out, name, dict(key=DONE))


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def leave_if_lost() -> None:
    """End this process where a fault within a kernel has left it no GPU: all else would fail."""
    if torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
        except RuntimeError as error:
            print(f'this process has lost the GPU: {error}', flush=True)
            os._exit(LOST)  # to tear down what is on the GPU would fail, too


# --------------------------------------------------------------------------------------- tests


class AsTheyCome:
    """Of pytest: writes each test's outcome at once, and what it failed with; leaves out those that
    have passed, and begins with those that have not failed."""

    def __init__(self, out: Path):
        known = rows(out, 'tests')
        self.out, self.failed = out, {key for key, row in known.items() if row.get('failed')}
        self.passed = {key for key, row in known.items() if row.get('outcome') == 'passed'}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((item for item in items if item.nodeid not in self.passed),
                          key=lambda item: (item.nodeid in self.failed, SLOW in item.nodeid))

    def pytest_collectreport(self, report):
        if report.failed or report.nodeid in self.failed:  # a file, which is a row of its own then
            self.row(key=report.nodeid, outcome=report.outcome, spent=0.0,
                     failed=failure(report) if report.failed else '')

    def pytest_runtest_logstart(self, nodeid):
        self.row(key=nodeid, outcome='failed', failed=BEGUN)

    def row(self, **row):
        append(self.out, 'tests', row)

    def pytest_runtest_logreport(self, report):
        if report.when == 'call' or report.outcome != 'passed':
            if report.when == 'teardown' and report.outcome == 'passed':
                return
            row = dict(key=report.nodeid, outcome=report.outcome, spent=report.duration)
            if report.failed:
                row['failed'] = failure(report)
            self.row(**row)
            if report.failed:
                print(report.longreprtext, flush=True)  # pytest does at the end, should it come
                leave_if_lost()


def failure(report) -> str:
    """The error, and the last lines of ours that led to it."""
    lines = report.longreprtext.splitlines() or ['no word']
    said = ' '.join(line for line in lines if line.startswith('E '))[:600] or lines[-1]
    entries = getattr(getattr(report.longrepr, 'reprtraceback', None), 'reprentries', ())
    places = [entry.reprfileloc for entry in entries if getattr(entry, 'reprfileloc', None)]
    ours = [f'{path.relative_to(ROOT)}:{place.lineno}' for place in places
            for path in [Path(place.path).resolve()]
            if ROOT in path.parents and 'site-packages' not in path.parts]
    return ' < '.join([said, *ours[:-4:-1]])


def tests(sizes: Sizes, out: Path) -> Iterator[Item]:
    """Those that are for a GPU; each is a row of its own."""
    import pytest

    which = ['tests/gpu'] if sizes.rehearse else [
        'tests/gpu', 'tests/test_bench_gpu.py', 'tests/datasets/test_fast_loading.py']
    if sizes.rehearse:
        os.environ['MMSEG_ESL_REHEARSAL'] = '1'
    code = pytest.main(
        ['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', '--continue-on-collection-errors',
         '--rootdir', str(ROOT), *(str(ROOT / name) for name in which)],
        plugins=[AsTheyCome(out)])
    if code not in (0, 1, 5):  # passed, some failed, none left
        raise RuntimeError(f'pytest ended with {code}')
    yield from ()


# --------------------------------------------------------------------------------- the figures


def steps(sizes: Sizes, out: Path) -> Iterator[Item]:
    """Each method's step over its floor; memory, images a second, waits."""
    for name in sizes.methods:
        yield name, lambda name=name: step(sizes, f'R{sizes.depth}-d8', lambda: models.load(
            sizes.depth, sizes.crop, sizes.classes, name))


def transformers(sizes: Sizes, out: Path) -> Iterator[Item]:
    """The same with DINOv2 and DPT; some methods with both sizes, before the others."""
    small, base, first = 'dinov2-s14_dpt', 'dinov2-b14_dpt', len(FIRST)
    cases = [(small, sizes.methods[:first]), (base, sizes.methods[:4]),
             (small, sizes.methods[first:]), (base, sizes.methods[4:])]
    for network, names in cases[:1] if sizes.rehearse else cases:
        for name in names:
            yield f'{network} {name}', lambda name=name, network=network: step(
                sizes, network.split('_')[0], lambda: models.load_network(
                    network, 42 if sizes.rehearse else 518, sizes.classes, name))


def step(sizes: Sizes, network: str, load: Callable) -> dict:
    """A row."""
    def measure(batch):
        cfg = load()
        crop = cfg.model.segmentor.data_preprocessor.size[0]
        model, optimizer = models.build(cfg, sizes.device)
        data = models.make_batch(batch, batch, sizes.classes, crop)
        row = floors.measure(model, optimizer, data, min(sizes.rounds, 2))
        row.pop('times')
        if sizes.device == 'cuda':
            row['waits'] = settings_of.waits(model, optimizer, data)
        return dict(network=network, **row)
    return with_fewer(sizes, measure)


def with_fewer(sizes: Sizes, measure: Callable) -> dict:
    """A row of as many images as the GPU has memory for."""
    for batch in sizes.batches:
        try:
            return measure(batch)
        except torch.cuda.OutOfMemoryError:
            pass
        free()  # now: as long as the error is there, so is all that its frames hold
    return dict(failed='out of memory')


def settings(sizes: Sizes, out: Path, compiled: bool = False) -> Iterator[Item]:
    """What mixed precision, channels-last and a fused optimiser bring to ESL."""
    names = {'fp32, channels-last': dict(channels_last=True), 'compile': dict(
        compiled=dict(backend='eager'))} if sizes.rehearse else settings_of.SETTINGS

    def one(name, batch):
        torch._dynamo.reset()
        cfg = settings_of.load(sizes.depth, 8, sizes.crop)
        data = settings_of.make_batch(batch, batch, sizes.crop, pin=not sizes.rehearse)
        return dict(images=2 * batch, **settings_of.measure(
            cfg, sizes.device, data, sizes.rounds, sizes.warmup, **names[name]))
    for name in names:
        if ('compiled' in names[name]) == compiled:
            yield name, lambda name=name: with_fewer(sizes, lambda batch: one(name, batch))


def compilation(sizes: Sizes, out: Path) -> Iterator[Item]:
    """And compilation, which takes its time."""
    yield from settings(sizes, out, compiled=True)


def loading_(sizes: Sizes, out: Path) -> Iterator[Item]:
    """Images a second of the training pipeline, by workers and size."""
    cases = [((64, 128), 0)] if sizes.rehearse else [
        (size, workers) for size in loading.SIZES for workers in (4, 8, 16)
        if workers <= (os.cpu_count() or 1)]
    made = {}

    def one(size, workers):
        if size not in made:  # drawn when the first of them is measured
            made[size] = tempfile.TemporaryDirectory()
            loading.write_cityscapes(made[size].name, 4, 4, 0, size=size)
        cfg = loading.loader_cfg(made[size].name, size, sizes.crop, workers)
        batches = 2 if sizes.rehearse else 4 + 2 * workers
        return dict(height=size[0], width=size[1], workers=workers, crop=sizes.crop,
                    images_per_second=loading.images_per_second(cfg, batches))
    for size, workers in cases:
        yield f'{size[0]} x {size[1]}, {workers} workers', \
            lambda size=size, workers=workers: one(size, workers)


PARTS = dict(tests=tests, steps=steps, settings=settings, transformers=transformers,
             loading=loading_, compilation=compilation)


if __name__ == '__main__':
    main()
