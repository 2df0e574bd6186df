"""Lines of sentences on a terminal end between words, and what is to be typed stays whole."""
import contextlib
import fcntl
import logging
import os
import pty
import struct
import sys
import termios

import pytest
from rich.console import Console

from mmseg_esl import commands, terminal
from mmseg_esl.doctor.findings import Finding, show
from mmseg_esl.engine import screen

SENTENCE = ('the teacher and the student: mIoU 19.9 at iteration 6: mmseg-esl export '
            'work_dirs/esl/iter_6.pth teacher.pth --from teacher. Tools take the teacher unless '
            'they are told --network student, and the rest of it goes on')
COMMAND = 'mmseg-esl export work_dirs/esl/iter_6.pth teacher.pth --from teacher.'


@contextlib.contextmanager
def of_80():
    """Stdout and stderr are a terminal of 80 columns; gives a list, which gets what it shows."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    shown: list = []
    with os.fdopen(follower, 'w') as stream, pytest.MonkeyPatch.context() as patch:
        patch.delenv('COLUMNS', raising=False)
        for name in ('stdout', '__stdout__', 'stderr'):
            patch.setattr(sys, name, stream)
        yield shown
        print('end', flush=True)
        text = ''
        while not text.endswith('end\r\n'):  # it comes in pieces
            text += os.read(leader, 10 ** 6).decode()
        shown += text.split('\r\n')[:-2]
    os.close(leader)


def test_a_line_ends_between_words():
    with of_80():
        assert terminal.columns() == 80
    text = terminal.fitted(SENTENCE, 4, 80)
    first, *rest = text.split('\n')
    assert len(rest) >= 2 and all(len(line) <= 80 for line in (first, *rest))
    assert ' '.join([first, *(line[4:] for line in rest)]) == SENTENCE
    assert all(line[:4] == '    ' != line[4:5] for line in rest)
    assert any(COMMAND in line for line in rest)  # on one line


@pytest.mark.parametrize('command', [
    'mmseg-esl train my_esl.py', 'python -m mmseg_esl test a.py b.pth --network student',
    "python ../tools/export_segmentor.py 'my runs/iter_6.pth' teacher.pth --from teacher",
    'mmseg-esl compare work_dirs/a work_dirs/b'])
def test_a_command_stays_whole(command):
    for blanks in range(3, 60):
        text = terminal.fitted('x' * blanks + f' type {command} and then see what it says', 0, 60)
        assert any(command in line for line in text.split('\n'))


def test_a_file_and_a_table_stay_as_they_are():
    assert terminal.fitted(SENTENCE, 4, None) == SENTENCE
    row = '| ' + 'a b ' * 40 + '|'
    assert terminal.fitted(f'{row}\nshort', 0, 80) == f'{row}\nshort'
    path = 'a/long' * 30  # a word
    assert terminal.fitted(f'see {path} there', 2, 80) == f'see\n  {path}\n  there'
    assert terminal.fitted('  - ' + 'word ' * 20, 2, 40).split('\n')[1].startswith('    word')


def test_the_screen_of_a_training(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    record = logging.LogRecord('mmengine', logging.INFO, '', 0,
                               f'saved to {tmp_path}/work_dirs/a. {SENTENCE}', None, None)
    assert screen.ScreenFormatter().format(record)[10:] == record.getMessage()  # to a file
    with of_80():
        found = screen.ScreenFormatter().format(record).split('\n')
        said = screen.warning_for_people(UserWarning('set it ' * 20), UserWarning, 'a.py', 3)
    assert found[0][8:].startswith('  saved to work_dirs/a. the teacher')
    assert len(found) > 2 and all(len(line) <= 80 for line in found)
    assert all(line[:10] == ' ' * 10 for line in found[1:])
    assert 'a.py' not in said and said.count('\n') == 3 and ' warning: set it set' in said


def test_what_a_tool_says_last(monkeypatch, tmp_path):
    """A command that ends with a sentence ends with it fitted; a status stays a status."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setattr(sys, 'argv', [])
    monkeypatch.setenv(commands.CALLED, 'mmseg-esl')
    out = tmp_path / ('folder_that_is_not_there_and_has_a_long_name' * 2) / 'a.py'
    with of_80(), pytest.raises(SystemExit) as ended:
        commands.main(['convert', 'a.py', '--unlabeled', 'b', '--out', str(out)])
    assert ended.value.code.split('\n')[0] == '--out'
    with of_80(), pytest.raises(SystemExit) as ended:
        commands.main(['methods', '--help'])
    assert ended.value.code == 0


def test_what_the_doctor_finds():
    finding = Finding('warning', 'weights', 'none of them ' * 12, 'set one of them ' * 8)
    with of_80() as shown:
        show([finding], Console(color_system=None))
    *lines, counts = shown
    assert counts == '0 error, 1 warning, 0 note, 0 ok'
    assert len(lines) == 5 and all(len(line) <= 80 for line in lines)
    assert all(line[:8] == ' ' * 8 for line in lines[1:])
    assert lines[3].startswith('        fix: set one')
