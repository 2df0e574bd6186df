"""Ranks and commands in forks: what fails there fails here."""
import time
from pathlib import Path

import forked
import pytest
from mmengine.dist import all_gather_object, get_rank

from mmseg_esl import stack


def meet() -> None:
    stack.start_gloo('pytorch', timeout=60)
    print(f'rank {get_rank()} of {all_gather_object(get_rank())}')


def fail_alone(rank: int) -> None:
    stack.start_gloo('pytorch', timeout=60)
    if get_rank() == rank:
        raise OSError('as if a disk had gone')
    time.sleep(60)


def test_ranks_meet_and_all_are_heard():
    assert forked.on_ranks(meet) == 'rank 0 of [0, 1]\nrank 1 of [0, 1]\n'


@pytest.mark.parametrize('rank', [0, 1])
def test_a_rank_that_fails_is_not_waited_for(rank):
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r'fail_alone.*failed(?s:.)*OSError: as if a disk'):
        forked.on_ranks(fail_alone, rank)
    assert time.monotonic() - start < 50


def test_ranks_that_never_end_are_ended():
    with pytest.raises(TimeoutError, match='2 ranks have not ended after 0.2 s'):
        forked.on_ranks(time.sleep, 60, timeout=0.2)


@pytest.mark.parametrize('code, status, said', [
    ('import sys; print(sys.argv[1:], 1)', 0, "['a'] 1\n"), ('raise SystemExit("no")', 1, 'no\n'),
    ('raise SystemExit(3)', 3, ''), ('import os; os.kill(os.getpid(), 9)', -9, '')])
def test_a_command_ends_as_a_process_would(tmp_path, code, status, said):
    (tmp_path / 'script.py').write_text(code)
    file = tmp_path / 'said'
    assert forked.command(Path('script.py'), 'a', folder=tmp_path, file=file) == status
    assert file.read_text() == said
