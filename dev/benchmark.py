"""Speed of mmseg_esl: its pieces, a whole step against its floor, data loading, growth.

    python dev/benchmark.py                       # all of it, on the GPU if there is one
    CUDA_VISIBLE_DEVICES= python dev/benchmark.py # on the CPU all the same
    python dev/benchmark.py --quick --only pieces
    python dev/benchmark.py --only step --methods all  # each method's step against its floor
    python dev/benchmark.py --recount             # operations and waits of all rows, no times
    python dev/benchmark.py --tables              # write the tables anew, measure nothing

Results go to OUT/cpu.json or OUT/cuda.json, section by section, plots beside them; the tables of
OUT.md, where there is such a page, are rewritten from both files. docs/performance.md says what is
measured and how.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Iterable

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler announces each start and stop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_esl import stack

stack.install()

import torch
from bench import floors, loading, measuring, models, pieces, plots, ranks, recount, step, tables
from bench.measuring import positive

from mmseg_esl.conversion.config import methods
from mmseg_esl.storage.atomic import atomic_file

SECTIONS = ('pieces', 'step', 'methods', 'loading', 'growth', 'ranks')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=measuring.ROOT / 'docs/performance')
    parser.add_argument('--only', nargs='+', choices=SECTIONS, default=SECTIONS)
    parser.add_argument('--quick', action='store_true', help='few settings, smaller crops')
    parser.add_argument('--tables', action='store_true', help='measure nothing')
    parser.add_argument('--recount', action='store_true',
                        help='count operations and waits of the rows that are there, no more')
    parser.add_argument('--threads', type=positive, default=1, help='of the CPU')
    parser.add_argument('--rounds', type=positive,
                        help='repetitions of everything; default: 5, quick 3; GPU 20')
    of_step = parser.add_argument_group('the whole step')
    of_step.add_argument('--methods', nargs='+', metavar='NAME', choices=['all', *methods()],
                         help="section 'methods' in place of 'step', of all or some of "
                              f'{", ".join(methods())}')
    of_step.add_argument('--depth', type=int, choices=list(models.WIDTHS), default=50)
    of_step.add_argument('--crop', type=positive, help='default: 513, quick 257')
    of_step.add_argument('--batch', type=positive, help='images of each kind; default: 8, CPU 1')
    of_step.add_argument('--classes', type=positive, nargs='+', help='default: 21 81, quick 21')
    args = parser.parse_args(argv)
    if args.methods and 'step' not in args.only and 'methods' not in args.only:
        parser.error(f'--methods is of the sections step and methods, not of {" ".join(args.only)}')
    if args.recount and args.methods:
        parser.error('--recount is of the rows that are there, of all methods')
    if args.recount and args.tables:
        parser.error('--recount counts, and --tables measures nothing: leave one of them out')
    cpu = not torch.cuda.is_available()
    args.device = 'cpu' if cpu else 'cuda'
    if args.methods:
        args.only = ['methods' if section == 'step' else section for section in args.only]
    args.methods = methods() if args.methods in (None, ['all']) else args.methods
    args.rounds = args.rounds or (20 if not cpu else 3 if args.quick else 5)
    args.crop = args.crop or (257 if args.quick else 513)
    args.batch = args.batch or (1 if cpu else 8)
    args.classes = args.classes or ([21] if args.quick else [21, 81])
    return args


def run(args, section: str) -> Iterable[dict]:
    """A section's rows, as they are measured."""
    if section == 'pieces':
        segmentor = models.build(models.load(args.depth, args.crop, 21), args.device)[0].main
        return pieces.run(args.device, args.rounds, args.quick, segmentor, say)
    if section == 'step':
        return (step.run(args.device, args.rounds, args.depth, args.crop, args.batch, classes, say)
                for classes in args.classes)
    if section == 'methods':
        return (row for classes in args.classes for row in floors.run(
            args.device, args.rounds, args.depth, args.crop, args.batch, classes, args.methods,
            say))
    if section == 'loading':
        return loading.run(4 * args.rounds, args.crop, say=say)
    if section == 'growth':
        return pieces.growth(args.device, args.rounds, args.quick, say)
    return ranks.run(10 * args.rounds, say=say)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read(folder: Path) -> dict:
    """What has been measured so far on each device.

    Raises:
        ValueError: a file is damaged, or another program's; it is not overwritten, since other
            sections took hours.
    """
    found = {name: {} for name in tables.DEVICES}
    for name in found:
        path = folder / f'{name}.json'
        if not path.exists():
            continue
        try:
            if not path.is_file():
                raise ValueError('no regular file')
            found[name] = json.loads(path.read_text(encoding='utf-8'))
            for make in tables.TABLES.values():  # they read all that is in it
                make(found)
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError) as error:
            raise ValueError(f'{path} is not JSON as benchmark.py writes it '
                             f'({type(error).__name__}: {error}): restore it, or remove it'
                             ) from error
    return found


def write(args, found: dict) -> None:
    with atomic_file(args.out / f'{args.device}.json') as file:
        file.write((json.dumps(found[args.device], indent=1) + '\n').encode())


def measured_before(result: dict | None, args, section: str) -> tuple[list, list]:
    """Rows of methods that are not measured now, which stay, and their commits."""
    rows = [row for row in (result or {}).get('rows', ())
            if section == 'methods' and row['method'] not in args.methods]
    return rows, result['machine']['commit'].split(', ') if rows else []


def main(argv=None) -> None:
    args = parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        found = read(args.out)
    except ValueError as error:
        sys.exit(f'benchmark.py: {error}')
    with measuring.threads(args.threads), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for section in recount.rows(
                found[args.device], args.device, args.only, say) if args.recount else ():
            found[args.device][section]['counted'] = measuring.commit()
            write(args, found)
        for section in () if args.tables or args.recount else args.only:
            others, commits = measured_before(found[args.device].get(section), args, section)
            machine = measuring.machine(args.device)
            machine['commit'] = ', '.join(dict.fromkeys([*commits, machine['commit']]))
            found[args.device][section] = dict(
                machine=machine, rows=others, options=dict(rounds=args.rounds, quick=args.quick))
            for row in run(args, section):
                found[args.device][section]['rows'].append(row)
                write(args, found)  # after each row: a long run may be cut short
    for device, results in found.items():
        plots.draw(results, device, args.out)
    for name, make in tables.TABLES.items():
        print(f'\n## {name}\n\n{make(found)}')
    page = args.out.with_suffix('.md')
    if page.is_file():
        tables.fill(page, found)


if __name__ == '__main__':
    main()
