"""Read the work folder of one training run."""
from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..commands import command
from ..storage.dumped import read_config

SCALARS, CONFIG = 'vis_data/scalars.json', 'vis_data/config.py'
METRIC = re.compile('[am][A-Z]')  # mmseg's own, as in mIoU and aAcc


@dataclass
class Run:
    """One run; several starts of it (timestamp folders) are one.

    Args:
        folder: its work folder.
        cfg: the config of its last start.
        load_from: what its first start began from, or None.
        starts: its log folders that count, ascending.
        training: ``{iteration: {'loss': ..., 'lr': ..., 'anchors/sky': ..., ...}}`` as logged in
            training, ascending.
        validations: ``{iteration: {'teacher/mIoU': per cent, ...}}``, ascending; without the
            prefix that an evaluator may give its metrics, where one is left without ambiguity.
        last_step: last iteration that is logged at all.
        protocol: content of ``protocol.json``, {} if there is none.
        seed: None if neither ``run.json`` nor the config says it.
        commit: of mmseg_esl; '' if not recorded; several starts may have several.
        world_size: processes, None if not recorded.
        method: what it says of itself (``engine.describe``); {} for a plain segmentor, and for runs
            of release 0.1.0 or without ProtocolHook.
        notes: what a reader of the table should know.
    """
    folder: Path
    cfg: dict
    load_from: str | None
    starts: list
    training: dict
    validations: dict
    last_step: int
    protocol: dict
    seed: int | None
    commit: str
    world_size: int | None
    method: dict
    notes: list

    @property
    def max_iters(self) -> int:
        return self.cfg['train_cfg']['max_iters']

    @property
    def last(self) -> int:
        """Iteration of the last validation, 0 if there is none."""
        return max(self.validations, default=0)

    @property
    def finished(self) -> bool:
        return self.last >= self.max_iters

    @property
    def with_pseudo_labels(self) -> bool:
        """Whether it learnt a network's labels along with others, without being called by that."""
        return bool(self.protocol.get('pseudo_labels')) and not _series(self.cfg)

    @property
    def evaluated(self) -> list[str]:
        """Names of networks that validations may be of; the one that predicts, and decides, first.

        The last is '': a plain mmseg run has one network, whose metrics have no prefix.
        """
        logged = [key.split('/')[0] for row in self.validations.values() for key in row
                  if '/' in key]
        return list(dict.fromkeys([*roles_in(self.method), *logged, '']))

    def networks(self, metric: str) -> list[str]:
        """The networks that have this metric in every validation; the one that decides first.

        Raises:
            ValueError: none has it; the message lists what there is.
        """
        rows = self.validations.values()
        found = [name for name in self.evaluated
                 if all(key_of(name, metric) in row for row in rows)]
        if not found:
            known = sorted({metric_of(key, self.evaluated) for row in rows for key in row}
                           - {'step'})
            raise ValueError(f"{self.folder}: no validation has the metric '{metric}'; there are "
                             f'{", ".join(known)}')
        return found

    def best(self, metric: str) -> int:
        """Iteration of the first validation at which the deciding network's metric is highest."""
        key = key_of(self.networks(metric)[0], metric)
        values = {step: row[key] for step, row in self.validations.items()}
        return max(values, key=lambda s: -math.inf if math.isnan(values[s]) else values[s])

    def classes(self, network: str) -> dict:
        """``{class: IoU in per cent}`` of the last validation; {} without PerClassIoUMetric."""
        prefix = key_of(network, 'IoU.')
        return {key[len(prefix):]: value for key, value in self.validations[self.last].items()
                if key.startswith(prefix)}


def roles_in(method: dict) -> list[str]:
    """Networks of a method as ``run.json`` has it, the one that predicts first."""
    networks = method.get('networks') or {}
    return sorted(networks.get('roles') or (), key=lambda name: name != networks.get('predicts'))


def key_of(network: str, metric: str) -> str:
    return f'{network}/{metric}' if network else metric


def metric_of(key: str, networks: list[str]) -> str:
    """A metric's name without its network's."""
    first, _, rest = key.partition('/')
    return rest if rest and first in networks else key


def read_run(folder, check: bool = True) -> Run:
    """Read a work folder of mmengine's Runner.

    A start without ``resume`` begins anew: what came before it is not counted. A resumed one goes
    on, and replaces what its predecessor logged beyond the checkpoint.

    Args:
        folder: the work folder.
        check: refuse what makes no row of a table. Without it a run that logged nothing yet, that
            never validated, or that counts epochs is read for what there is.

    Raises:
        ValueError: it holds no logged training or no config, a line in the middle of a log cannot
            be read, its starts trained on different lists, or (``check``) a finished run never
            validated.
    """
    folder = Path(folder)
    with as_training_leaves_it(folder):
        return _read(folder, check)


@contextlib.contextmanager
def as_training_leaves_it(folder):
    """Say of which folder it was when one that nobody trained in holds what nothing expects."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:  # a list for a dictionary, nesting without end, ...
        raise ValueError(f'{folder}: not as a training leaves it ({type(error).__name__}: '
                         f'{str(error)[:200]})') from error


def _read(folder: Path, check: bool) -> Run:
    starts = _starts(folder, check)
    configs, notes = [read_config(config_of(folder, start)) for start in starts], []
    fresh = max((i for i, cfg in enumerate(configs) if not cfg.get('resume')), default=0)
    if fresh:
        notes.append(f'begun anew in {starts[fresh].name}; earlier starts are not counted')
    starts, configs = starts[fresh:], configs[fresh:]
    if len(starts) > 1:
        notes.append(f'resumed, {len(starts)} starts')
    infos = [read_json(start / 'run.json') for start in starts]
    method = _named(infos[-1].get('method') or {}, _series(configs[-1]))
    last_step, training, validations = _read_logs(starts, notes, roles_in(method))
    validations = _without_prefixes(validations, configs)
    run = Run(
        folder=folder, cfg=configs[-1], load_from=configs[0].get('load_from'), notes=notes,
        starts=starts, training=training, validations=validations, last_step=last_step,
        protocol=_protocol(folder, starts),
        seed=infos[0].get('seed', (configs[0].get('randomness') or {}).get('seed')),
        commit=' then '.join(dict.fromkeys(i['commit'] for i in infos if i.get('commit'))),
        world_size=infos[-1].get('world_size'), method=method)
    length = (run.cfg.get('train_cfg') or {}).get('max_iters')
    if not isinstance(length, (int, type(None))):
        raise ValueError(f'{folder}: train_cfg.max_iters is {length!r} in its config and no number')
    if check:
        _check(run)
    return run


def _named(method: dict, series: str) -> dict:
    """A method's words; the last of a series of trainings is the method that the series is."""
    if not (method and series):
        return method
    return {**method, 'name': series, 'published_as': series, 'sees_unlabeled': True}


def _series(cfg: dict) -> str:
    """The series of trainings whose result a run is; '' of any other run."""
    name = cfg.get('self_training')
    return name if isinstance(name, str) else ''


def _starts(folder: Path, logged: bool) -> list[Path]:
    """The log folders with scalars; unless they must be ``logged``, else those with any log."""
    starts = sorted(path.parents[1] for path in folder.glob(f'*/{SCALARS}'))
    if not starts and not logged:
        starts = sorted(path.parent for path in folder.glob('*/*.log')
                        if path.stem == path.parent.name)
    if not starts:
        raise ValueError(f"{folder}: no '*/{SCALARS}' in it. Name the work folder of a run "
                         f'(--work-dir of {command("train")}), whose config has '
                         "vis_backends=[dict(type='LocalVisBackend')]")
    return starts


def _check(run: Run) -> None:
    if not (run.cfg.get('train_cfg') or {}).get('max_iters'):
        raise ValueError(f'{run.folder}: its config has no train_cfg.max_iters; only runs that '
                         'train by iterations can be summarised')
    if not run.validations and run.last_step >= run.max_iters:
        raise ValueError(f'{run.folder}: trained to the end without a validation. Set val_cfg, '
                         'val_dataloader, val_evaluator and a train_cfg.val_interval of at most '
                         'max_iters')
    if 0 in run.validations:
        raise ValueError(f'{run.folder}: validations are logged by epoch, so that their iteration '
                         'is not known. Set default_hooks.logger.log_metric_by_epoch=False')


def config_of(folder: Path, start: Path) -> Path:
    """The start's own config; if it was not kept, the copy in the work folder.

    Raises:
        ValueError: there is neither, or several copies.
    """
    path, copies = start / CONFIG, sorted(folder.glob('*.py'))
    if path.is_file():
        return path
    if len(copies) != 1:
        raise ValueError(f"{folder}: no '{start.name}/{CONFIG}', and {len(copies)} configs "
                         '(*.py) in the folder itself, where one would do instead. Copy the '
                         "config of this run there, as Config.dump writes it")
    return copies[0]


def _read_logs(starts, notes: list, networks: list) -> tuple[int, dict, dict]:
    training, validations, step = {}, {}, 0
    for start in starts:
        for row in _rows(start / SCALARS, notes):
            # a validation that is logged by epoch has step 0, wherever it stands
            if 0 < row['step'] < step:  # resumed before it
                training, validations = (
                    {s: v for s, v in found.items() if s < row['step']}
                    for found in (training, validations))
            if _is_validation(row, networks):
                validations.setdefault(row['step'], {}).update(row)
            elif 'iter' in row or not any(key.startswith('audit/') for key in row):
                training.setdefault(row['step'], {}).update(row)
            step = row['step'] or step
    return step, training, validations


def _is_validation(row: dict, networks: list) -> bool:
    """Neither training's row, which has its iteration, nor DiagnosticsHook's of the classes."""
    names = [key.partition('/') for key in row if key != 'step']
    return 'iter' not in row and any(not rest or first in networks or METRIC.match(rest)
                                     for first, _, rest in names)


def _without_prefixes(validations: dict, configs: list) -> dict:
    """'teacher/val/mIoU' is 'teacher/mIoU' of val_evaluator=dict(prefix='val').

    Where evaluators of several prefixes have a metric in common, each keeps its own.
    """
    found = [evaluator for cfg in configs for evaluator in _listed(cfg.get('val_evaluator'))]
    prefixes = sorted({one['prefix'] for one in found
                       if isinstance(one, dict) and one.get('prefix')}, key=len, reverse=True)
    keys = {key for row in validations.values() for key in row}
    short = {key: _shortened(key, prefixes) for key in keys}
    times = Counter(short.values())
    return {step: {short[key] if times[short[key]] == 1 else key: value
                   for key, value in row.items()} for step, row in validations.items()}


def _listed(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _shortened(key: str, prefixes: list) -> str:
    for prefix in prefixes:
        network, mark, metric = f'/{key}'.partition(f'/{prefix}/')
        if mark and '/' not in network[1:]:
            return f'{network[1:]}/{metric}' if network else metric
    return key


def _rows(path: Path, notes: list):
    lines = path.read_text(encoding='utf-8').splitlines() if path.is_file() else ()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row['step'] += 0  # half a line may be valid JSON
            row = {key: _within_floats(value) for key, value in row.items()}
            row['step'] = int(row['step'])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError,
                RecursionError) as error:
            if number < len(lines):
                raise ValueError(
                    f"{path}, line {number} is not JSON: {line[:60]!r}. Remove the line if nothing "
                    'is lost with it, or leave this run out') from error
            notes.append(f'the last line of {path.parents[1].name}/{SCALARS} is broken off')
        else:
            yield row


def _within_floats(value):
    """An infinity for a whole number that no float can hold."""
    if isinstance(value, int) and abs(value) > 2 ** 1000:
        return math.inf if value > 0 else -math.inf
    return value


def read_json(path: Path) -> dict:
    """Content of a JSON file; {} if it is not there, ValueError if it is damaged."""
    if not path.exists():
        return {}
    try:
        if not path.is_file():
            raise ValueError('no regular file')
        found = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(found, dict):
            raise ValueError(f'a {type(found).__name__} and no object')
        return found
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: not JSON ({error}); remove the file, and the run counts as one '
                         'without it') from error


def _protocol(folder: Path, starts) -> dict:
    found = [info for info in (read_json(start / 'protocol.json') for start in starts) if info]
    names = list(dict.fromkeys(info['protocol'] for info in found))
    if len(names) > 1:
        raise ValueError(f"{folder}: its starts trained on different lists, '{names[0]}' and "
                         f"'{names[1]}': it is no one run. Train it again in a new folder")
    return found[-1] if found else {}
