"""Operations and waits of rows that were measured before, counted anew: no clock is read.

They change with the code and are the same on any machine; the times of a row take hours.
"""
from __future__ import annotations

from typing import Callable, Iterator

from . import pieces, step
from .counting import count_step
from .measuring import count
from .models import build, load, make_batch

SECTIONS = ('step', 'methods', 'pieces')


def rows(results: dict, device: str, only, say: Callable = print) -> Iterator[str]:
    """Count for each row of some of these sections, in place; yields the section of each."""
    for section in (name for name in SECTIONS if name in only):
        for row in results.get(section, {}).get('rows', ()):
            say(f"{section}: {row.get('piece') or row.get('method', 'esl')}, "
                f"{row.get('classes') or row.get('setting')}")
            if section == 'pieces':
                for name, work in works(row, device).items():
                    row['contenders'][name].update(count(work))
            else:
                row['counts'] = of_step(row, device)
            yield section


def of_step(row: dict, device: str) -> dict:
    depth = row.get('depth') or int(row['network'].removeprefix('R'))
    model, optimizer = build(load(depth, row['crop'], row['classes'], row.get('method', 'esl')),
                             device)
    batch = make_batch(row['images'] // 2, row['images'] // 2, row['classes'], row['crop'])
    step.train_step(model, optimizer, batch)  # as before any row: the queues hold what it left
    return count_step(model, batch)


def works(row: dict, device: str) -> dict:
    if row['piece'] == 'EMA':
        return pieces.ema(build(load(50, 513, 21), device)[0].main, device)
    make, _ = pieces.PIECES[row['piece']]
    return make(pieces.Setting(**row['setting']), device)
