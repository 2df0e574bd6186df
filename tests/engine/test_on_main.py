"""Work of one rank: its result and its error are everybody's."""
from __future__ import annotations

import pytest
import torch
import torch.multiprocessing as mp

from mmseg_esl.engine.ranks import on_main, raise_together


def fails():
    raise KeyError('a key')


def rank(number, folder):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=number, world_size=2)
    said = [on_main(lambda *args, **kwargs: (number, args, kwargs), 1, two=3)]
    for work in (lambda: on_main(fails),
                 lambda: raise_together(OSError('own') if number else None, 'reading')):
        try:
            said.append(work())
        except Exception as error:
            said.append(f'{type(error).__name__}: {error}')
    said.append(raise_together(None, 'resting'))
    (folder / str(number)).write_text('\n'.join(map(str, said)))


def test_two_ranks(tmp_path):
    mp.start_processes(rank, (tmp_path,), nprocs=2, start_method='fork')
    first, second = ((tmp_path / name).read_text().splitlines() for name in '01')
    assert first == ["(0, (1,), {'two': 3})", "KeyError: 'a key'",
                     'RuntimeError: another rank failed while reading; its log says why', 'None']
    assert second == [
        "(0, (1,), {'two': 3})",
        "RuntimeError: rank 0 failed, and all ranks stop with it: KeyError: 'a key'",
        'OSError: own', 'None']


def test_one_process():
    assert on_main(lambda x: x + 1, 2) == 3
    with pytest.raises(KeyError, match='a key'):
        on_main(fails)
    with pytest.raises(OSError, match='own'):
        raise_together(OSError('own'), 'reading')
    assert raise_together(None, 'reading') is None
