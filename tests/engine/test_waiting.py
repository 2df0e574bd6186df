"""A loader worker that stops without dying: said by number, and torch's time-out with it."""
import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest
from torch.utils.data import DataLoader

from mmseg_esl.engine.loops.waiting import batches


@pytest.fixture
def said(monkeypatch):
    found = []
    monkeypatch.setattr('mmseg_esl.engine.loops.waiting.print_log',
                        lambda text, *args: found.append(text))
    return found


def loader_of_one(**options):
    """No tensors: torch fetches each one's memory from the worker, for ever if that is stopped
    between word and memory (``timeout`` ends it not, and once in 75 times it was)."""
    return DataLoader(range(8), num_workers=1, prefetch_factor=1, collate_fn=list, **options)


def stop_one(loader, patience, seconds):
    """(the rest of the batches, pid): a worker is stopped after the first, and goes on later."""
    found = batches(loader, patience)
    first = next(found)
    worker = found.gi_frame.f_locals['workers'][0]
    os.kill(worker.pid, signal.SIGSTOP)
    timer = threading.Timer(seconds, os.kill, [worker.pid, signal.SIGCONT])
    timer.start()
    try:
        return [first, *found], worker.pid
    finally:
        timer.cancel()
        timer.join()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGCONT)


def test_a_stopped_worker_is_named_once(said):
    loader = loader_of_one()
    found, pid = stop_one(loader, 0.3, 1.2)
    assert len(found) == 8  # and nothing is lost
    text, = [each for each in said if 'is stopped' in each]  # on a busy machine others are late
    assert text.startswith(f'no batch for 0.3 s: loader worker {pid} is stopped. ')
    assert '--resume' in text


def test_torch_s_own_time_out_names_it(said):
    loader = loader_of_one(timeout=0.3)
    with pytest.raises(RuntimeError, match=r'timed out after 0.3 seconds: loader worker \d+ is '
                                           r'stopped\. Raise train_dataloader\.timeout'):
        stop_one(loader, 60, 60)  # goes on when torch has given up, however busy the machine
    assert said == []


class Workers:
    """A loader of one batch that comes late; its workers are any processes."""

    def __init__(self, *workers):
        self._workers, self.daemons, self.given = workers, [], False

    def __iter__(self):
        return self

    def __next__(self):
        if self.given:
            raise StopIteration
        self.daemons = [each.daemon for each in threading.enumerate()
                        if isinstance(each, threading.Timer)]
        time.sleep(0.5)
        self.given = True
        return 'batch'


class Worker:

    def __init__(self, *command):
        self.process = subprocess.Popen(command)
        self.pid = self.process.pid

    def is_alive(self):
        return self.process.returncode is None


def test_what_each_worker_does_is_in_words(said):
    """And the process may end meanwhile: nobody waits for the timer."""
    ended = Worker('true')
    ended.process.wait()
    workers = Workers(Worker('sleep', '99'), Worker('sh', '-c', 'while :; do :; done'),
                      Worker('true'), ended)
    try:
        assert list(batches(workers, 0.2)) == ['batch']
    finally:
        for worker in workers._workers[:3]:
            worker.process.kill()
            worker.process.wait()
    text, = said
    assert [each.split()[-1] for each in text.split('. A stopped')[0].split(', ')] == [
        'sleeping', 'running', 'dead', 'dead']
    assert all(workers.daemons) and workers.daemons


def test_who_waits_not_says_nothing(said):
    for workers in (0, 1):
        assert len(list(batches(DataLoader(range(3), num_workers=workers), 30))) == 3
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert said == [] and all(timer.finished.is_set() for timer in timers)  # cancelled
