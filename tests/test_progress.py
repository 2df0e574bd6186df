"""Lines of progress where the output is no terminal."""
import sys

import pytest

from mmseg_esl import progress


@pytest.mark.parametrize('total, wanted', [
    (4, ['masks: 1 of 4', 'masks: 2 of 4', 'masks: 3 of 4']),
    (None, ['masks: 1', 'masks: 2', 'masks: 3', 'masks: 4'])])
def test_a_line_now_and_then(monkeypatch, capsys, total, wanted):
    monkeypatch.setattr(progress, 'EVERY', 0.0)
    assert list(progress.track(iter('abcd'), 'masks', total)) == list('abcd')
    assert capsys.readouterr().err.splitlines() == wanted
    said = []
    assert list(progress.track('abcd', 'masks', total, said.append)) == list('abcd')
    assert said == wanted


def test_short_loops_say_nothing(capsys):
    assert list(progress.track(range(3), 'masks', 3)) == [0, 1, 2]
    assert capsys.readouterr() == ('', '')


def test_lines_are_as_far_apart_as_they_are_to_be(monkeypatch):
    clock, said = iter(range(1000)), []  # a second for each look at the clock
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
    for _ in progress.track(range(100), 'masks', 100, said.append):
        pass
    assert 5 <= len(said) <= 10 and said[0] == 'masks: 10 of 100'


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    monkeypatch.setattr(progress, 'EVERY', 0.0)
    assert list(progress.track(range(3), 'masks', 3)) == [0, 1, 2]
    assert 'masks: ' not in capsys.readouterr().err
