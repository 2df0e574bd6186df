"""A training that another program has started ends with it, were that killed."""
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import st_plus_plus

from mmseg_esl import processes
from mmseg_esl.ladder import limit

# as train.py does: asked to stop, it saves
TRAINING = """
import pathlib, signal, sys, time
note = pathlib.Path(sys.argv[1])
def save(*_):
    note.write_text('saved')
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
note.write_text('begun')
time.sleep(60)
"""


def as_the_ladder_does(note):
    with open(note.with_name('log'), 'w') as log:
        limit.run_until(limit.never, [sys.executable, note.with_name('train.py'), note], log)


def as_st_plus_plus_does(note):
    st_plus_plus.TOOLS = note.parent
    st_plus_plus.trainer(gpus=1)(note, note.parent)


def comes(path, text) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if path.exists() and path.read_text() == text:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(params=['as here', 'as elsewhere'])
def system(request, monkeypatch):
    """Linux' way, where the kernel tells a child; and that of systems where a process watches."""
    if request.param == 'as elsewhere':
        code = ('import sys; sys.path.insert(0, sys.argv.pop(1)); import processes as p; '
                'sys.exit(p._accompany(int(sys.argv[1]), sys.argv[2:]))')
        real = processes.ending_with_us

        def watched(command):
            python, flags, file, *words = real(command)
            return [python, flags, '-c', code, os.path.dirname(file), *words]
        for module in (processes, limit, st_plus_plus):
            monkeypatch.setattr(module, 'ending_with_us', watched)
    elif sys.platform != 'linux':
        pytest.skip('this system has the other way alone')


@pytest.mark.parametrize('start', [as_the_ladder_does, as_st_plus_plus_does])
def test_a_training_saves_when_what_started_it_is_killed(system, start, tmp_path):
    (tmp_path / 'train.py').write_text(TRAINING)
    parent = multiprocessing.get_context('fork').Process(
        target=start, args=(tmp_path / 'note', ))
    parent.start()
    assert comes(tmp_path / 'note', 'begun')
    parent.kill()
    parent.join()
    assert comes(tmp_path / 'note', 'saved')


def test_a_command_whose_parent_is_gone_does_not_begin(system, tmp_path):
    """Killed before the kernel was asked."""
    command = processes.ending_with_us(['touch', tmp_path / 'note'])
    command[command.index(str(os.getpid()))] = str(2 ** 22 + 1)  # no process has it
    assert subprocess.run(command).returncode == 143 and not (tmp_path / 'note').exists()


def test_the_command_is_the_same(system):
    """Words, environment and exit status."""
    code = 'import os, sys; print(*sys.argv[1:], os.environ["PYTHONHASHSEED"]); sys.exit(7)'
    done = subprocess.run(processes.ending_with_us([sys.executable, '-c', code, 'a b', '--c']),
                          env={**os.environ, 'PYTHONHASHSEED': '3'}, stdout=subprocess.PIPE,
                          text=True)
    assert (done.returncode, done.stdout) == (7, 'a b --c 3\n')


@pytest.mark.parametrize('number, status', [(signal.SIGTERM, 143), (signal.SIGINT, None)])
def test_a_command_is_asked_to_stop(system, tmp_path, number, status):
    """It is sent SIGTERM by who waits for it; Ctrl-C comes from the terminal to all of them."""
    (tmp_path / 'train.py').write_text(TRAINING)
    process = subprocess.Popen(processes.ending_with_us(
        [sys.executable, tmp_path / 'train.py', tmp_path / 'note']), start_new_session=True)
    assert comes(tmp_path / 'note', 'begun')
    if number == signal.SIGTERM:
        process.terminate()
    else:
        os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == status or status is None
    assert (tmp_path / 'note').read_text() == ('saved' if status else 'begun')


def test_signals_are_answered_given_back_and_left_ignored():
    seen, numbers = [], (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(signal.SIGINT, signal.SIG_IGN),
              signal.signal(signal.SIGTERM, signal.SIG_DFL)]
    try:
        with processes.answered(numbers, lambda number, frame: seen.append(number)):
            for number in numbers:
                os.kill(os.getpid(), number)
        assert seen == [signal.SIGTERM]
        assert [signal.getsignal(number) for number in numbers] == [
            signal.SIG_IGN, signal.SIG_DFL]
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def test_another_thread_answers_no_signal():
    """Python would refuse it."""
    ended = []

    def enter():
        with processes.answered((signal.SIGINT,), print):
            ended.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert ended
