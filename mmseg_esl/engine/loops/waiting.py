"""Batches of a loader, and a word on a worker that keeps them waiting."""
from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from mmengine.logging import print_log

PATIENCE = 300.0  # seconds (our choice): torch waits for ever, without a word
STATES = dict(R='running', S='sleeping', D='waiting for a disk or a network drive', T='stopped',
              t='stopped by a debugger', Z='dead', X='dead')


def batches(loader, patience: float = PATIENCE) -> Iterator:
    """What a loader gives; of its workers it is said when they die, or are silent for long.

    Args:
        loader: torch's. patience: seconds without a batch before the log says what each worker
            does; once for each such wait.

    Raises:
        RuntimeError: a worker ended while it handed a batch over, or was silent for longer than
            the loader's own ``timeout`` (which torch does not look at while it fetches a tensor
            from a worker that has announced it: the log's word is all there is then).
    """
    found = iter(loader)
    workers = getattr(found, '_workers', ())
    try:
        while True:
            with _patience(workers, patience):
                try:
                    batch = next(found)
                except StopIteration:
                    return
            yield batch
    except (ConnectionError, EOFError) as error:  # it ended while it handed a batch over
        dead = [worker.pid for worker in workers if not worker.is_alive()]
        raise RuntimeError(
            f'DataLoader worker (pid {", ".join(map(str, dead)) or "unknown"}) exited '
            'unexpectedly, in most cases for want of memory: lower num_workers, and go on '
            'with --resume') from error
    except RuntimeError as error:
        if not str(error).startswith('DataLoader timed out'):
            raise
        raise RuntimeError(f'{error}: {_told(workers)}. Raise train_dataloader.timeout if the '
                           'files are that slow; go on with --resume') from error


@contextmanager
def _patience(workers, seconds: float) -> Iterator[None]:
    if not workers:
        yield
        return
    timer = threading.Timer(seconds, _say, [workers, seconds])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(workers, seconds: float) -> None:
    print_log(f'no batch for {seconds:g} s: {_told(workers)}. A stopped worker goes on after '
              '`kill -CONT PID`; train_dataloader.timeout=SECONDS ends such a wait, and --resume '
              'goes on from the last checkpoint', 'current', logging.WARNING)


def _told(workers) -> str:
    return 'loader ' + ', '.join(f'worker {worker.pid} is {_state(worker)}' for worker in workers)


def _state(worker) -> str:
    """In words; from the process table where the system has one as Linux has."""
    try:
        after_name = Path(f'/proc/{worker.pid}/stat').read_text().rpartition(')')[2]
        return STATES.get(after_name.split()[0], after_name.split()[0])
    except OSError:
        return 'alive' if worker.is_alive() else 'dead'
