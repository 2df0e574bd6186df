"""A table as Markdown and as CSV, from the same cells."""
from __future__ import annotations

import csv
import io
import math

from .run import key_of
from .table import WHICH, Row, Table, mean_sd, title_of

ABSENT = '–'


def cells(row: Row, table: Table) -> dict:
    """A row of the CSV: column -> text, numbers with two decimals, '' where there is none."""
    runs = row.runs
    out = dict(protocol=table.protocol, partition=row.partition, labeled=row.labeled,
               training=row.title, backbone=row.backbone, evaluation=row.evaluation,
               iterations=runs[0].max_iters, metric=table.metric, n=len(runs),
               seeds=_join(run.seed for run in runs))
    for which in WHICH:
        for name in table.networks:
            values = row.values.get((name, which))
            mean, sd = mean_sd(values) if values else (None, None)
            for stat, value in (('mean', mean), ('sd', sd)):
                out[f'{name or "network"}_{which}_{stat}'] = _number(value)
    out.update(best_iterations=_join(run.best(table.metric) for run in runs),
               paper=row.paper.miou if row.paper else None,
               paper_source=row.paper.source if row.paper else None,
               published=row.beside.miou if row.beside else None,
               published_source='; '.join(map(str, row.published)) or None,
               commits=_join(dict.fromkeys(run.commit or 'not recorded' for run in runs)),
               runs=_join(run.folder for run in runs))
    return {key: '' if value is None else str(value) for key, value in out.items()}


def to_csv(table: Table) -> str:
    """One line per row; its columns are those of ``cells``. Empty if no run is finished."""
    return _csv([cells(row, table) for row in table.rows])


def classes_to_csv(table: Table) -> str:
    """One line per row, network and class: mean IoU of the last validation."""
    return _csv([dict(training=row.title, partition=row.partition, network=name or 'network',
                      **{'class': label}, n=len(row.runs), iou_last_mean=_number(value))
                 for row in table.rows for name, found in row.classes.items()
                 for label, value in found.items()])


def to_markdown(table: Table, per_class: bool = False) -> str:
    """Heading, table, footnotes and the single runs; with ``per_class`` the IoU of each class."""
    parts = [f'### {title_of(table.protocol)}', '']
    if table.rows:
        parts += [_explain(table), '', *_main(table), '']
    if per_class and table.rows:
        parts += [*_per_class(table), '']
    return '\n'.join(parts + _runs(table)) + '\n'


def _explain(table: Table) -> str:
    judge = table.networks[0] or 'network'
    return (f'{table.metric} in per cent, mean ± sample standard deviation over n seeds. Last: the '
            f'last validation. Best: the validation at which the {judge} is best, chosen on the '
            'very images it is reported on; all networks are of that same validation.')


def _main(table: Table) -> list[str]:
    columns = [f'{name or "network"}, {which}' for which in WHICH for name in table.networks]
    beside = [name for name, given in (('paper', any(row.paper for row in table.rows)),
                                       ('published', any(row.published for row in table.rows)))
              if given]
    head = ['training', 'labelled', 'backbone', 'evaluation', 'iterations', 'n', *columns]
    lines, notes = [], []
    for row in table.rows:
        found, marks = cells(row, table), []
        for note in _footnotes(row):
            if note not in notes:
                notes.append(note)
            marks.append(f' [{notes.index(note) + 1}]')
        lines.append([found['training'] + ''.join(marks), _labelled(row), row.backbone,
                      row.evaluation, found['iterations'], found['n'],
                      *[_spread(found, f'{name or "network"}_{which}') for which in WHICH
                        for name in table.networks],
                      *[_beside(row, name) or ABSENT for name in beside]])
    return [*_grid([*head, *beside], lines, numbers=4),
            *(f'\n[{number}] {note}' for number, note in enumerate(notes, 1))]


def _beside(row: Row, column: str) -> str:
    """A figure of others', with its epoch if that is known."""
    if column == 'paper':
        return row.paper.miou if row.paper else ''
    found = row.beside
    known = found and found.epoch in ('last', 'best')
    return f'{found.miou} ({found.epoch})' if known else found.miou if found else ''


def _labelled(row: Row) -> str:
    if row.labeled is None:
        return ABSENT
    return f'{row.labeled} ({row.partition})' if row.partition else str(row.labeled)


def _footnotes(row: Row):
    if (row.lists or 0) > 1:
        yield 'The runs have different labelled lists: the spread is that of seed and list.'
    if row.paper:
        yield f'The paper: {row.paper.source}. {row.paper.remark}'.rstrip()
    if row.published:
        own = '' if row.beside else ' None is by crop and evaluation of these runs.'
        yield f'Published: {"; ".join(map(str, row.published))}.{own}'


def _spread(found: dict, key: str) -> str:
    mean, sd = found[f'{key}_mean'], found[f'{key}_sd']
    return f'{mean} ± {sd}' if sd else mean or ABSENT


def _per_class(table: Table) -> list[str]:
    """Classes go down, since there may be many; of each row the network that decides."""
    found = [next(iter(row.classes.values()), {}) for row in table.rows]
    names = list(dict.fromkeys(label for one in found for label in one))
    if not names:
        return ["No IoU of each class was logged: val_evaluator=dict(type='PerClassIoUMetric')."]
    head = ['class', *[f'{row.title}, {_labelled(row)}, n = {len(row.runs)}'
                       for row in table.rows]]
    lines = [[label, *[_number(one.get(label)) or ABSENT for one in found]] for label in names]
    return ['IoU of each class in per cent, mean of the seeds, last validation of the network that '
            'predicts; nan: in no validation image of a run', '', *_grid(head, lines, 1)]


def _runs(table: Table) -> list[str]:
    networks, lines = table.networks, []
    for run in table.runs:
        pair = [ABSENT, ABSENT]
        if run.finished:
            pair = [' / '.join(_number(run.validations[step].get(key_of(name, table.metric)))
                               for name in networks)
                    for step in (run.last, run.best(table.metric))]
            pair[1] += f' at {run.best(table.metric)}'
        notes = list(run.notes) if run.finished else [_unfinished(run), *run.notes]
        lines.append([run.folder, ABSENT if run.seed is None else run.seed,
                      run.commit or 'not recorded', *pair, '; '.join(notes)])
    order = ' / '.join(name or 'network' for name in networks)
    said = f'Runs ({order}; unfinished ones are in no mean)' if networks else 'Runs'
    return [said, '', *_grid(['run', 'seed', 'commit', 'last', 'best', 'note'], lines, 0)]


def _unfinished(run) -> str:
    where = f'last validation at {run.last}' if run.last else 'no validation'
    return f'unfinished: {where}, last logged iteration {run.last_step}, of {run.max_iters}'


def _grid(head: list, lines: list, numbers: int) -> list[str]:
    """A Markdown table; columns from the ``numbers``-th on are numbers if that is not 0."""
    rule = ['--:' if numbers and index >= numbers else '---' for index in range(len(head))]
    return ['| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in line) + ' |'
            for line in (head, rule, *lines)]


def _number(value) -> str:
    if value is None:
        return ''
    return 'nan' if math.isnan(value) else f'{value:.2f}'


def _join(values) -> str:
    return ' '.join('-' if value is None else str(value) for value in values)


def _csv(rows: list) -> str:
    if not rows:
        return ''
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
