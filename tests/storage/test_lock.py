"""Two processes, one folder: who may write, and what a dead one leaves."""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmseg_esl.storage import lock
from mmseg_esl.storage.atomic import atomic_file, remove_leftovers
from mmseg_esl.storage.lock import FolderLock, Locked

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from mmseg_esl.storage.lock import FolderLock
FolderLock(sys.argv[1]).take()
print('held', flush=True)
sys.stdin.read()
"""


def holder(folder) -> subprocess.Popen:
    """Another process that trains there."""
    process = subprocess.Popen([sys.executable, '-c', HOLD, str(folder)], cwd=ROOT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == 'held\n'
    return process


def test_the_second_is_refused_by_name_and_a_killed_one_blocks_nobody(tmp_path):
    first = holder(tmp_path)
    for ask in (FolderLock(tmp_path).check, FolderLock(tmp_path).take):
        with pytest.raises(Locked, match=f'process {first.pid} on {socket.gethostname()}'):
            ask()
    assert [path.name for path in tmp_path.iterdir()] == [lock.NAME]
    first.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # dead, and not cleared away
    assert (tmp_path / lock.NAME).is_file()
    ours, began = FolderLock(tmp_path), time.monotonic()
    ours.take()
    assert time.monotonic() - began < 1
    ours.give_back()
    first.wait()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('left', ['', 'half of it {', '[]', '{"pid": "1"}', '{"pid": -1}',
                                  '[' * 9999])
def test_what_is_no_lock_blocks_nobody(tmp_path, left):
    (tmp_path / lock.NAME).write_text(left)
    FolderLock(tmp_path).take()


def test_a_number_used_again_is_another_process(tmp_path):
    ours = FolderLock(tmp_path)
    content = dict(ours.content, pid=os.getppid(), started='1')  # it lives, and began later
    if not ours.content['started']:
        pytest.skip('no /proc')
    ours.path.write_text(json.dumps(content))
    ours.take()
    ours.give_back()


def test_another_host_is_told_by_its_heartbeat(tmp_path, monkeypatch):
    ours = FolderLock(tmp_path)
    ours.path.write_text(json.dumps(dict(ours.content, host='elsewhere', token='other')))
    ours.check(wait=0.3)  # silent: its machine is gone
    monkeypatch.setattr(lock, 'BEAT', 0.02)
    other = FolderLock(tmp_path)
    other.content.update(host='elsewhere')
    beat = threading.Thread(target=other._beat, daemon=True)
    beat.start()
    with pytest.raises(Locked, match='on elsewhere'):
        ours.check(wait=0.3)
    other._ended.set()
    beat.join()
    ours.take(wait=0.3)
    ours.give_back()


def test_only_ones_own_lock_is_given_back(tmp_path):
    ours = FolderLock(tmp_path)
    ours.take()
    ours.path.write_text('{"token": "other"}')
    ours.give_back()
    assert ours.path.is_file()


def test_of_many_at_once_one_trains(tmp_path):
    processes = [subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], cwd=ROOT, text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL) for _ in range(6)]
    lines = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate('')
    assert lines.count('held\n') == 1


# ---------------------------------------------------------------------------------- one file


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / 'file'
    with atomic_file(path) as first:
        first.write(b'first, ')
        first.flush()
        with atomic_file(path) as second:
            second.write(b'second')
        assert path.read_bytes() == b'second'
        first.write(b'to its end')
    assert path.read_bytes() == b'first, to its end'
    assert [item.name for item in tmp_path.iterdir()] == ['file']


def test_what_is_being_written_is_no_leftover(tmp_path):
    with atomic_file(tmp_path / 'file') as file:
        file.write(b'x')
        assert remove_leftovers(tmp_path) == []
    (tmp_path / '.other.unfinished').write_bytes(b'of a killed writer, and longer')
    with atomic_file(tmp_path / 'other') as file:  # takes its place
        file.write(b'short')
    assert (tmp_path / 'other').read_bytes() == b'short'
    (tmp_path / '.more.12-ab.unfinished').touch()
    assert remove_leftovers(tmp_path) == ['.more.12-ab.unfinished']
    assert sorted(item.name for item in tmp_path.iterdir()) == ['file', 'other']


@pytest.mark.parametrize('letter, number', [('a', 243), ('a', 244), ('a', 255), ('\u00e4', 127)])
def test_names_as_long_as_can_be(tmp_path, letter, number):
    """The hidden name of what is being written is longer than that; ``number`` letters."""
    path = tmp_path / (letter * number)
    for content in (b'first', b'second'):
        with atomic_file(path) as file:
            file.write(content)
            with atomic_file(path) as other:  # a second writer's name is longer still
                other.write(b'another')
        assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
