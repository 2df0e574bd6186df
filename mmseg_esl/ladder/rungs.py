"""Rows of the table, and their runs: trained, tested and read."""
from __future__ import annotations

import argparse
import ast
import re
import shutil
import statistics
import sys
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Callable

from mmengine.config import Config, DictAction

from ..commands import tools
from ..conversion import Method
from ..results import Run, read_run
from ..results.run import SCALARS, key_of, read_json
from ..results.training import SECTIONS, differences
from ..storage.config import flatten
from ..storage.resumable import read_pointer
from .limit import never, run_until
from .start import write_start

METRIC = 'mIoU'
# what may differ between a run and its row: how files are read, and precision, which a CPU changes
ASIDE = {'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'backend_args',
         'file_client_args', 'check_files', 'loss_scale', 'dtype'}
READING = threading.Lock()  # mmengine reloads pkg_resources for a base of mmseg's
STOPPED = 'is not finished: the same command goes on'


class Row:
    """A method, and keys of its ``semi_train_cfg``: a row of the table.

    Args:
        name: of the row's config and folders. method: a folder of configs/. options: 'KEY=VALUE'.
    """

    def __init__(self, name: str, method: str, options: list[str] = ()):
        if not re.fullmatch(r'\w[\w.+-]*', name):
            raise ValueError(f"--row {name!r} names a file and folders: take letters, digits and "
                             "'_', '-', '+', '.'")
        self.name, self.method, self.keys, self.fitted = name, Method(method), {}, {}
        for option in options:
            key, _, value = option.partition('=')
            try:
                self.keys[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError):  # a bare word
                self.keys[key] = value
        self._set()

    def _set(self) -> None:
        """The keys of its training: the method's, those that the network asks for, its own."""
        self.changed = {**self.fitted.get('semi_train_cfg', {}), **self.keys}
        self.cfg = self.method.model.parse_cfg(
            {**self.method.cfg.get('semi_train_cfg', {}), **self.changed})

    @property
    def title(self) -> str:
        given = ', '.join(f'{key}={value}' for key, value in self.changed.items())
        return self.method.model.name_of(self.cfg) + (f': {given}' if given else '')

    @property
    def networks(self) -> list[str]:
        """The whole segmentors, the one that predicts first."""
        plain = [name for name, role in self.method.model.roles_of(self.cfg).items() if role.plain]
        chosen = (self.method.cfg.get('semi_test_cfg') or {}).get('predict_on', plain[-1])
        return sorted(plain, key=lambda name: name != chosen)

    @property
    def cost(self) -> str:
        """Forwards of an encoder (and decoder, where they differ) for a labelled and an unlabelled
        image; a forward with its backward counts 3."""
        encoder, decoder = (sum(parts) for parts in
                            zip(*self.method.model.passes(self.cfg).values()))
        return f'{encoder:g}' if encoder == decoder else f'{encoder:g} ({decoder:g})'

    def leaf(self, data: Path) -> str:
        """Text of its config around the data config; fits the row to its network."""
        cfg, method = Config.fromfile(str(data)), self.method
        self.fitted = self._fit(cfg)
        self._set()
        lines = [f'_base_ = [{data.as_posix()!r}, {method.path.as_posix()!r}]',
                 'model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)',
                 'default_hooks = _base_.method_hooks',
                 'default_hooks["checkpoint"].pop("save_best", None)  # the last one counts']
        if 'custom_imports' not in cfg:
            lines.insert(1, "custom_imports = dict(imports=['mmseg_esl.register'])")
        for key, value in self.fitted.items():
            merged = f'{{**_base_.method.get({key!r}, {{}}), **{value!r}}}'
            lines.append(f'model[{key!r}] = {merged if isinstance(value, dict) else repr(value)}')
        if method.sees_unlabeled and 'warm_up' in cfg:
            lines.append("model['semi_train_cfg'].update(_base_.warm_up)")
        if self.keys:
            lines.append(f"model['semi_train_cfg'].update({self.keys!r})")
        if not method.sees_unlabeled and 'labeled_only' in cfg:
            lines.append('train_dataloader = _base_.labeled_only')
        if 'method_optim' in Config.fromfile(str(method.path)):
            lines.append('optim_wrapper = _base_.method_optim')
        return '\n'.join(lines) + '\n'

    def _fit(self, data: Config) -> dict:
        """Keys without which the method does not train the data config's network, as the converter
        finds them: DeepLabV3+ has layers that other heads lack."""
        if not self.method.sees_unlabeled:
            return {}
        from ..conversion.trial import find_settings, with_settings
        try:
            return find_settings(data.model, with_settings(
                self.method.cfg, dict(semi_train_cfg=self.keys)))[0]
        except ValueError as error:
            raise ValueError(f'{self.name}: {error}') from error


@dataclass(frozen=True)
class Rung:
    """One run: a row, a seed, the folder of all runs.

    Args:
        options: 'KEY=VALUE' beside the row's config. start: checkpoints that it begins from, see
            :func:`.start.write_start`. In both, '{seed}' stands for the seed.
    """
    row: Row
    seed: int
    out: Path
    options: tuple[str, ...] = ()
    start: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.out / f'{self.row.name}_seed{self.seed}'

    @property
    def config(self) -> Path:
        return self.out / f'{self.row.name}.py'

    @property
    def given(self) -> list[str]:
        """The options of its training."""
        return [f'randomness.seed={self.seed}',
                *(option.replace('{seed}', str(self.seed)) for option in self.options)]

    @cached_property
    def cfg(self) -> Config:
        parser, cfg = argparse.ArgumentParser(), Config.fromfile(str(self.config))
        parser.add_argument('given', nargs='+', action=DictAction)
        cfg.merge_from_dict(parser.parse_args(self.given).given)
        return cfg

    def read(self) -> Run | None:
        """What it has logged; None if that is nothing yet."""
        return read_run(self.folder, check=False) if list(
            self.folder.glob(f'*/{SCALARS}')) else None

    @property
    def trained(self) -> bool:
        """Whether it has come to its end; ValueError if it is another training's."""
        run = self.read()
        if run is None or run.last < self.cfg.train_cfg.max_iters:
            return False
        was, now = differences([_settings(run.cfg), _settings(self.cfg)])
        if was:
            raise ValueError(f'{self.folder} is of another training, {was}; the row says {now}. '
                             'Give the --cfg-options of that training, or another --out')
        if bool(self.start) != self.begun.is_file():
            raise ValueError(f'{self.folder} began {"anew" if self.start else "from --start"}, the '
                             'row would not: give --start as that training had, or another --out')
        return True

    @property
    def begun(self) -> Path:
        """What it began from, if it did not begin anew."""
        return self.folder / 'start.pth'

    def tested(self, network: str) -> float | None:
        """Its last test; None if there is none."""
        found = sorted((self.folder / f'test_{network}').glob('*/*.json'))
        logged = read_json(found[-1]) if found else {}
        return next((value for key, value in logged.items()  # an evaluator may have a prefix
                     if key.split('/')[-1] == METRIC), None)

    @property
    def apart(self) -> bool:
        """Whether it is tested on other images than it is validated on."""
        return self.cfg.test_dataloader.dataset != self.cfg.val_dataloader.dataset

    @property
    def finished(self) -> bool:
        return self.trained and (not self.apart or None not in map(self.tested, self.row.networks))

    def values(self) -> dict[str, float]:
        """The metric of each network that the table is of."""
        if self.apart:
            return {name: self.tested(name) for name in self.row.networks}
        run = self.read()
        last = run.validations[run.last]
        return {name: last[key_of(name, METRIC)] for name in self.row.networks}

    def minutes(self) -> float | None:
        """Of training; None where the run was too short for its log to have a row."""
        run = self.read()
        times = [row['time'] for row in run.training.values() if 'time' in row]
        return statistics.median(times) * run.max_iters / 60 if times else None


def _settings(cfg) -> dict:
    out: dict = {}
    for section in SECTIONS:
        flatten(section, cfg.get(section), out, ASIDE)
    return {key: value for key, value in out.items() if key != 'optim_wrapper.type'}


def finish(rung: Rung, over: Callable[[], bool] = never) -> str:
    """Train a run to its end, from where it stands, and test it; '' or what went wrong.

    Args:
        over: whether it has to stop; it then saves, and goes on the next time.
    """
    rung.folder.mkdir(parents=True, exist_ok=True)
    given = ['--cfg-options', *rung.given]
    with READING:
        commands = []
        if not rung.trained:
            for earlier in rung.folder.glob('test_*'):  # of a shorter training
                shutil.rmtree(earlier)
            begin = ['--resume', *given]
            if rung.start and not (rung.folder / 'last_checkpoint').is_file():
                begin = [*given, 'load_from=' + str(write_start(
                    rung.row, [path.replace('{seed}', str(rung.seed)) for path in rung.start],
                    rung.begun))]
            commands = [[tools() / 'train.py', rung.config, '--work-dir', rung.folder, *begin]]
        if rung.apart:
            commands += [[tools() / 'test.py', rung.config, 'CHECKPOINT', '--network', name,
                          '--work-dir', rung.folder / f'test_{name}', *given]
                         for name in rung.row.networks if rung.tested(name) is None]
    with open(rung.folder / 'ladder.log', 'a', encoding='utf-8') as log:
        for command in commands:
            command = [str(last_checkpoint(rung.folder) if part == 'CHECKPOINT' else part)
                       for part in command]
            code = run_until(over, [sys.executable, *command], log)
            if code is None:
                return f'{rung.folder.name} {STOPPED}'
            if code:
                return f'{rung.folder.name} ended with {code}: see {log.name}'
    return ''


def last_checkpoint(folder: Path) -> Path:
    """What a run names as its last; relative, so that folders can be moved."""
    found = read_pointer(folder, folder)
    if found is None:
        raise ValueError(f"{folder}: no checkpoint that 'last_checkpoint' names: put it back, or "
                         'remove the folder, and the run begins anew')
    return found


def spread(values: list[float], each: bool = False) -> str:
    """'mean ± sd' of several values, and themselves."""
    if not values:
        return '–'
    sd = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    listed = f' ({", ".join(f"{value:.1f}" for value in values)})' if each and sd else ''
    return f'{statistics.fmean(values):.2f}{sd}{listed}'


def table(rows: list[Row], rungs: list[Rung]) -> str:
    """Markdown: the last iteration of each network, mean ± sd over the seeds that are finished, and
    what a row has over supervised training, each seed against the same seed."""
    values = {rung: rung.values() for rung in rungs if rung.finished}
    baseline = {rung.seed: found['student'] for rung, found in values.items()
                if rung.row.name == 'supervised'}
    lines = ['| method | seeds | the network that predicts | others | over supervised | '
             'forwards a pair | minutes |', '|---|--:|--:|--:|--:|--:|--:|']
    for row in rows:
        runs = [rung for rung in rungs if rung.row is row and rung in values]
        cells = [f'{name} ' + spread([values[rung][name] for rung in runs], each=True)
                 for name in row.networks]
        gains = [values[rung][row.networks[0]] - baseline[rung.seed]
                 for rung in runs if rung.seed in baseline and row.name != 'supervised']
        minutes = [found for rung in runs if (found := rung.minutes()) is not None]
        lines.append(f'| {row.title} | {len(runs)} | {cells[0]} | {", ".join(cells[1:]) or "–"} | '
                     f'{gain(gains)} | {row.cost} | {spread(minutes)} |')
    return '\n'.join(lines)


def gain(values: list[float]) -> str:
    """The mean of differences, with its sign, and themselves."""
    if not values:
        return '–'
    each = f' ({", ".join(f"{value:+.1f}" for value in values)})' if len(values) > 1 else ''
    return f'{statistics.fmean(values):+.2f}{each}'
