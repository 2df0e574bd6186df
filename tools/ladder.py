"""Train several methods by one recipe, and print what each gains and costs.

    python tools/ladder.py --data configs/_base_/partitions/camvid_1-16.py --seeds 0 1 2
    python tools/ladder.py --data my_data.py --methods supervised esl unimatch --jobs 2
    python tools/ladder.py --data my_data.py --methods supervised --row soft esl variant=dsl
    python tools/ladder.py --data my_data.py --table                # what there is; trains nothing

``--data`` is a config that trains a segmentor on a SemiDataset: data, network, optimiser, schedule,
evaluation (docs/configs.md says how it is made). Each method wraps it with nothing changed but its
own keys, so the rows differ in the method alone; ``{seed}`` in an option stands for the seed. What
is finished is not trained again, what was interrupted goes on. Where the config tests on other
images than it validates on, the last checkpoint is tested, and the table is of the test.
"""
from __future__ import annotations

import argparse
import ast
import re
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cli_common  # noqa: F401 - finds the package and mends the stack
from mmengine.config import Config, DictAction

import mmseg_esl.register  # noqa: F401 - registers every component
from mmseg_esl.conversion.config import Method, Refused, methods
from mmseg_esl.results import Run, read_run
from mmseg_esl.results.run import SCALARS, key_of, read_json
from mmseg_esl.results.training import SECTIONS, differences
from mmseg_esl.storage.config import flatten

TOOLS = Path(__file__).resolve().parent
METRIC = 'mIoU'
# what may differ between a run and its row: how files are read, and precision, which a CPU changes
ASIDE = {'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'backend_args',
         'file_client_args', 'check_files', 'loss_scale', 'dtype'}


class Row:
    """A method, and keys of its ``semi_train_cfg``: a row of the table.

    Args:
        name: of the row's config and folders. method: a folder of configs/. options: 'KEY=VALUE'.
    """

    def __init__(self, name: str, method: str, options: list[str] = ()):
        if not re.fullmatch(r'\w[\w.+-]*', name):
            raise ValueError(f"--row {name!r} names a file and folders: take letters, digits and "
                             "'_', '-', '+', '.'")
        self.name, self.method, self.keys = name, Method(method), {}
        for option in options:
            key, _, value = option.partition('=')
            try:
                self.keys[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError):  # a bare word
                self.keys[key] = value
        self.cfg = self.method.model.parse_cfg(
            {**self.method.cfg.get('semi_train_cfg', {}), **self.keys})

    @property
    def title(self) -> str:
        given = ', '.join(f'{key}={value}' for key, value in self.keys.items())
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
        """Text of its config around the data config."""
        cfg, method = Config.fromfile(str(data)), self.method
        lines = [f'_base_ = [{data.as_posix()!r}, {method.path.as_posix()!r}]',
                 'model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)',
                 'default_hooks = _base_.method_hooks',
                 'default_hooks["checkpoint"].pop("save_best", None)  # the last one counts']
        if 'custom_imports' not in cfg:
            lines.insert(1, "custom_imports = dict(imports=['mmseg_esl.register'])")
        if method.sees_unlabeled and 'warm_up' in cfg:
            lines.append("model['semi_train_cfg'].update(_base_.warm_up)")
        if self.keys:
            lines.append(f"model['semi_train_cfg'].update({self.keys!r})")
        if not method.sees_unlabeled and 'labeled_only' in cfg:
            lines.append('train_dataloader = _base_.labeled_only')
        if 'method_optim' in Config.fromfile(str(method.path)):
            lines.append('optim_wrapper = _base_.method_optim')
        return '\n'.join(lines) + '\n'


@dataclass(frozen=True)
class Rung:
    """One run: a row, a seed, the folder of all runs, 'KEY=VALUE' beside the row's config."""
    row: Row
    seed: int
    out: Path
    options: tuple[str, ...] = ()

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
        return True

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

    def minutes(self) -> float:
        run = self.read()
        return statistics.median(row['time'] for row in run.training.values()
                                 if 'time' in row) * run.max_iters / 60


def _settings(cfg) -> dict:
    out: dict = {}
    for section in (*SECTIONS, 'load_from'):
        flatten(section, cfg.get(section), out, ASIDE)
    return {key: value for key, value in out.items() if key != 'optim_wrapper.type'}


def finish(rung: Rung) -> str:
    """Train a run to its end, from where it stands, and test it; '' or what went wrong."""
    rung.folder.mkdir(parents=True, exist_ok=True)
    given, commands = ['--cfg-options', *rung.given], []
    if not rung.trained:
        for earlier in rung.folder.glob('test_*'):  # of a shorter training
            shutil.rmtree(earlier)
        commands = [[TOOLS / 'train.py', rung.config, '--work-dir', rung.folder, '--resume',
                     *given]]
    if rung.apart:
        commands += [[TOOLS / 'test.py', rung.config, 'CHECKPOINT', '--network', name,
                      '--work-dir', rung.folder / f'test_{name}', *given]
                     for name in rung.row.networks if rung.tested(name) is None]
    with open(rung.folder / 'ladder.log', 'a', encoding='utf-8') as log:
        for command in commands:
            command = [str(last_checkpoint(rung.folder) if part == 'CHECKPOINT' else part)
                       for part in command]
            done = subprocess.run([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT)
            if done.returncode:
                return f'{rung.folder.name} ended with {done.returncode}: see {log.name}'
    return ''


def last_checkpoint(folder: Path) -> Path:
    """What a run names as its last; relative, so that folders can be moved."""
    return folder / (folder / 'last_checkpoint').read_text().strip()


def spread(values: list[float], each: bool = False) -> str:
    """'mean ± sd' of several values, and themselves."""
    if not values:
        return '–'
    sd = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    listed = f' ({", ".join(f"{value:.1f}" for value in values)})' if each and sd else ''
    return f'{statistics.fmean(values):.2f}{sd}{listed}'


def table(rows: list[Row], rungs: list[Rung]) -> str:
    """Markdown: the last iteration of each network, mean ± sd over the seeds that are finished."""
    lines = ['| method | seeds | the network that predicts | others | forwards a pair | minutes |',
             '|---|--:|--:|--:|--:|--:|']
    for row in rows:
        runs = [rung for rung in rungs if rung.row is row and rung.finished]
        values = [rung.values() for rung in runs]
        cells = [f'{name} ' + spread([value[name] for value in values], each=True)
                 for name in row.networks]
        lines.append(f'| {row.title} | {len(runs)} | {cells[0]} | {", ".join(cells[1:]) or "–"} | '
                     f'{row.cost} | {spread([rung.minutes() for rung in runs])} |')
    return '\n'.join(lines)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, metavar='CONFIG')
    parser.add_argument('--methods', nargs='+', default=[], metavar='NAME',
                        help='all (the default, if there is no --row), or some of '
                             f'{", ".join(methods())}')
    parser.add_argument('--row', nargs='+', action='append', default=[], metavar='ARG',
                        help='a name, a method, and KEY=VALUE of its semi_train_cfg')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ladder'))
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--table', action='store_true', help='print the table alone')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    names = methods() if args.methods == ['all'] or not args.methods + args.row else args.methods
    out, data = args.out.resolve(), args.data.resolve()
    try:
        if any(len(row) < 2 for row in args.row):
            raise ValueError('--row NAME METHOD [KEY=VALUE ...]')
        rows = [*(Row(name, name) for name in names),
                *(Row(name, method, options) for name, method, *options in args.row)]
        for what, found in (('row', [row.name for row in rows]), ('seed', args.seeds)):
            twice = [one for one in dict.fromkeys(found) if found.count(one) > 1]
            if twice:
                raise ValueError(f'the {what} {twice[0]} is given twice: they would share folders')
        rungs = [Rung(row, seed, out, tuple(args.cfg_options))
                 for seed in args.seeds for row in rows]
        out.mkdir(parents=True, exist_ok=True)
        for row in rows:
            (out / f'{row.name}.py').write_text(row.leaf(data), encoding='utf-8')
        faults = []
        if not args.table:
            left = [rung for rung in rungs if not rung.finished]
            print(f'{len(rungs) - len(left)} of {len(rungs)} runs are finished', flush=True)
            with ThreadPoolExecutor(args.jobs) as pool:
                for rung, fault in zip(left, pool.map(finish, left)):
                    print(fault or f'{rung.folder.name} is finished', flush=True)
                    faults += [fault] if fault else []
        print(table(rows, rungs))
        sys.exit(1 if faults else 0)
    except (Refused, OSError, ValueError) as error:
        sys.exit(f'ladder.py: {error}')


if __name__ == '__main__':
    main()
