"""Group runs into the rows of a table: mean and standard deviation over seeds."""
from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from ..splits import check_same_protocol, describe, is_published
from .paper import Figure, figure
from .published import Published, alike, published
from .run import Run, key_of
from .training import backbone, differences, evaluation, identity, title

WHICH = ('last', 'best')


@dataclass
class Row:
    """Finished runs that differ in nothing but the seed (and, with it, in lists of one's own).

    Args:
        values: ``{(network, 'last' or 'best'): one value per run}``, in per cent for IoU.
        lists: how many different labelled lists the runs have, None if not recorded.
        classes: ``{network: {class: mean IoU of the last validation}}``.
        published: others' figures for the cell, the nearest first; beside: the one of the runs'
            own crop and evaluation, or None.
    """
    title: str
    partition: str
    labeled: int | None
    runs: list
    values: dict
    lists: int | None
    classes: dict
    paper: Figure | None = None
    published: list[Published] = field(default_factory=list)
    beside: Published | None = None

    @property
    def backbone(self) -> str:
        return backbone(self.runs[0].cfg)

    @property
    def evaluation(self) -> str:
        return evaluation(self.runs[0].cfg)


@dataclass
class Table:
    """One protocol's results; ``unfinished`` runs are in no row."""
    protocol: str
    metric: str
    rows: list
    unfinished: list = field(default_factory=list)

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name, _ in row.values))

    @property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.runs] + self.unfinished


def mean_sd(values) -> tuple[float, float | None]:
    """Mean and sample standard deviation, None for a single value; nan where one is not finite."""
    if not all(map(math.isfinite, values)):
        mean = sum(values) / len(values)
        return mean, math.nan if len(values) > 1 else None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def protocol_of_run(run: Run) -> str:
    """Its protocol without the partition; 'unrecorded ...' names the list of its config."""
    name = run.protocol.get('protocol')
    if name:
        return name.split('/')[0]
    data = (run.cfg.get('train_dataloader') or {}).get('dataset') or {}
    return f'unrecorded {data.get("labeled", data).get("ann_file") or "(no list)"}'


def title_of(protocol: str) -> str:
    """A protocol's name for a heading."""
    if protocol.startswith('own-'):
        return f'own lists (sha256 {protocol[len("own-"):]} of all ids)'
    if protocol.startswith('unrecorded'):
        return f'lists not recorded: {protocol[len("unrecorded "):]}'
    return describe(protocol)


def group(runs) -> dict:
    """``{protocol: its runs}``."""
    out: dict = {}
    for run in runs:
        out.setdefault(protocol_of_run(run), []).append(run)
    return out


def check_one_protocol(runs) -> None:
    """Refuse runs that trained by different protocols, or of which that is not known.

    Raises:
        ValueError: with the folders of each protocol.
    """
    groups = group(runs)
    if len(groups) == 1:
        return
    folders = '; '.join(f'{title_of(name)}: {", ".join(str(run.folder) for run in found)}'
                        for name, found in groups.items())
    lost = [name for name in groups if name.startswith('unrecorded')]
    if lost:
        raise ValueError(
            f"one table needs one protocol: {folders}. Runs with dict(type='ProtocolHook') in "
            'custom_hooks record theirs (protocol.json); for a table of each, use --group')
    try:
        check_same_protocol(run.protocol['protocol'] for run in runs)
    except ValueError as error:
        raise ValueError(f'{error} (--group). {folders}') from error


def make_table(runs, metric: str = 'mIoU', figures: dict | None = None,
               others: list[Published] = ()) -> Table:
    """The table of runs of one protocol: few labelled images first, then in the order given.

    Args:
        figures: of ``read_figures``. others: of ``read_published``. Left out, or with another
            metric, nothing stands beside.

    Raises:
        ValueError: several protocols, two runs of one row with one seed (or none recorded) and one
            labelled list, or a metric that no validation has.
    """
    check_one_protocol(runs)
    finished = [run for run in runs if run.finished]
    rows: dict = {}
    for run in finished:
        config = tuple(sorted(map(str, identity(run).items())))
        cell = _partition(run), _labeled(run).get('count'), config
        rows.setdefault(cell, []).append(run)
    made = sorted((_row(found, metric) for found in rows.values()),
                  key=lambda row: row.labeled or 0)
    _tell_apart(made)
    for row in made if metric == 'mIoU' else ():
        run = row.runs[0]
        row.paper = figure(figures or {}, run, others)
        row.published = published(others, run)
        row.beside = next((each for each in row.published if alike(each, run)), None)
    return Table(protocol_of_run(runs[0]), metric, made, [r for r in runs if not r.finished])


def _partition(run: Run) -> str:
    """Of published lists; '' for own ones: those of as many labelled images are averaged."""
    name = run.protocol['protocol'] if run.protocol else ''
    return name.partition('/')[2] if is_published(name) else ''


def _labeled(run: Run) -> dict:
    return run.protocol.get('labeled') or {}


def _row(runs: list, metric: str) -> Row:
    runs = sorted(runs, key=lambda run: (run.seed is None, run.seed))
    _check_distinct(runs)
    networks = [name for name in runs[0].networks(metric)
                if all(name in run.networks(metric) for run in runs)]
    values = {(name, which): [
        run.validations[run.last if which == 'last' else run.best(metric)][key_of(name, metric)]
        for run in runs] for which in WHICH for name in networks}
    first, lists = runs[0], {_labeled(run).get('sha256') for run in runs}
    return Row(title(first), _partition(first), _labeled(first).get('count'), runs, values,
               None if None in lists else len(lists),
               {name: _classes([run.classes(name) for run in runs]) for name in networks})


def _check_distinct(runs: list) -> None:
    seen: dict = {}
    for run in runs:
        other = seen.setdefault((run.seed, _labeled(run).get('sha256')), run)
        if other is not run:
            said = ('neither run.json nor the config of these runs says their seed'
                    if run.seed is None else f'these runs have the same seed, {run.seed}')
            raise ValueError(f'{other.folder} and {run.folder}: {said}, and nothing else tells '
                             'them apart, so that they cannot be averaged. Leave one of them out')


def _classes(found: list) -> dict:
    """nan where a run has nan: the class occurs in none of its validation images."""
    shared = [name for name in found[0] if all(name in one for one in found)]
    return {name: statistics.mean(one[name] for one in found) for name in shared}


def _tell_apart(rows: list) -> None:
    """Add to titles that occur twice what their configs do not have in common."""
    alike: dict = {}
    for row in rows:
        alike.setdefault((row.title, row.labeled, row.partition, row.backbone), []).append(row)
    for same in alike.values():
        for row, what in zip(same, differences([identity(row.runs[0]) for row in same])):
            if len(same) > 1:
                row.title += f' ({what})'
