"""Train several methods by one recipe, and print what each gains and costs.

    python tools/ladder.py --data configs/_base_/partitions/camvid_1-16.py --seeds 0 1 2
    python tools/ladder.py --data my_data.py --methods supervised esl unimatch --jobs 2
    python tools/ladder.py --data my_data.py --table                # what there is; trains nothing

``--data`` is a config that trains a segmentor on a SemiDataset: data, network, optimiser, schedule,
evaluation (docs/configs.md says how it is made). Each method wraps it with nothing changed but its
own keys, so the rows differ in the method alone; ``{seed}`` in an option stands for the seed. What
is finished is not trained again, what was interrupted goes on.
"""
from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cli_common  # noqa: F401 - finds the package and mends the stack
from mmengine.config import Config

import mmseg_esl.register  # noqa: F401 - registers every component
from mmseg_esl.convert.config import Method, Refused, methods
from mmseg_esl.results import Run, read_run
from mmseg_esl.results.run import SCALARS, key_of

TRAIN = Path(__file__).resolve().parent / 'train.py'
METRIC = 'mIoU'


@dataclass(frozen=True)
class Rung:
    """One run: a method, a seed, where it lives."""
    method: str
    seed: int
    folder: Path

    def read(self) -> Run | None:
        """What it has logged; None if that is nothing yet."""
        return read_run(self.folder, check=False) if list(
            self.folder.glob(f'*/{SCALARS}')) else None

    @property
    def finished(self) -> bool:
        run = self.read()
        return run is not None and run.max_iters in run.validations


def leaf(data: Path, method: Method) -> str:
    """Text of the config of a method around the data config."""
    cfg = Config.fromfile(str(data))
    lines = [f"_base_ = ['{data.as_posix()}', '{method.path.as_posix()}']",
             'model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)',
             'default_hooks = _base_.method_hooks',
             'default_hooks["checkpoint"].pop("save_best", None)  # the last one is what counts']
    if 'custom_imports' not in cfg:
        lines.insert(1, "custom_imports = dict(imports=['mmseg_esl.register'])")
    if method.sees_unlabeled and 'warm_up' in cfg:
        lines.append("model['semi_train_cfg'].update(_base_.warm_up)")
    if not method.sees_unlabeled and 'labeled_only' in cfg:
        lines.append('train_dataloader = _base_.labeled_only')
    if 'method_optim' in Config.fromfile(str(method.path)):
        lines.append('optim_wrapper = _base_.method_optim')
    return '\n'.join(lines) + '\n'


def train(rung: Rung, options: list[str]) -> str:
    """Train a run to its end, from where it stands; '' or what went wrong."""
    rung.folder.mkdir(parents=True, exist_ok=True)
    given = [option.replace('{seed}', str(rung.seed)) for option in options]
    with open(rung.folder / 'ladder.log', 'a', encoding='utf-8') as log:
        done = subprocess.run(
            [sys.executable, str(TRAIN), str(config_of(rung)), '--work-dir', str(rung.folder),
             '--resume', '--cfg-options', f'randomness.seed={rung.seed}', *given],
            stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        return f'{rung.folder.name} ended with {done.returncode}: see {log.name}'
    return ''


def config_of(rung: Rung) -> Path:
    return rung.folder.parent / f'{rung.method}.py'


def spread(values: list[float]) -> str:
    """'mean ± sd' of several values."""
    if not values:
        return '–'
    sd = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.2f}{sd}'


def cost(method: Method) -> str:
    """Forwards of an encoder (and decoder, where they differ) for a labelled and an unlabelled
    image; a forward with its backward counts 3."""
    parsed = method.model.parse_cfg(method.cfg.get('semi_train_cfg'))
    encoder, decoder = (sum(parts) for parts in zip(*method.model.passes(parsed).values()))
    return f'{encoder:g}' if encoder == decoder else f'{encoder:g} ({decoder:g})'


def table(names: list[str], rungs: list[Rung]) -> str:
    """Markdown: last validation of each network, mean ± sd over the seeds that are finished."""
    rows = ['| method | seeds | the network that predicts | others | forwards a pair | minutes |',
            '|---|--:|--:|--:|--:|--:|']
    for name in names:
        runs = [rung.read() for rung in rungs if rung.method == name and rung.finished]
        method, cells = Method(name), []
        for network in method.networks:
            key = key_of(network, METRIC)
            cells.append(f'{network} ' + spread([run.validations[run.max_iters][key]
                                                 for run in runs]))
        minutes = [statistics.median(row['time'] for row in run.training.values() if 'time' in row)
                   * run.max_iters / 60 for run in runs]
        others = ', '.join(cells[1:]) or '–'
        rows.append(f'| {method.title} | {len(runs)} | {cells[0]} | {others} | {cost(method)} | '
                    f'{spread(minutes)} |')
    return '\n'.join(rows)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, metavar='CONFIG')
    parser.add_argument('--methods', nargs='+', default=['all'], metavar='NAME',
                        help=f'all, or some of {", ".join(methods())}')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ladder'))
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--table', action='store_true', help='print the table alone')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    names = methods() if args.methods == ['all'] else args.methods
    out, data = args.out.resolve(), args.data.resolve()
    rungs = [Rung(name, seed, out / f'{name}_seed{seed}') for seed in args.seeds for name in names]
    try:
        if not args.table:
            out.mkdir(parents=True, exist_ok=True)
            for name in names:
                (out / f'{name}.py').write_text(leaf(data, Method(name)), encoding='utf-8')
            left = [rung for rung in rungs if not rung.finished]
            print(f'{len(rungs) - len(left)} of {len(rungs)} runs are finished', flush=True)
            with ThreadPoolExecutor(args.jobs) as pool:
                for rung, fault in zip(left, pool.map(lambda r: train(r, args.cfg_options), left)):
                    print(fault or f'{rung.folder.name} is finished', flush=True)
        print(table(names, rungs))
    except (Refused, OSError, ValueError) as error:
        sys.exit(f'ladder.py: {error}')


if __name__ == '__main__':
    main()
