"""Train several methods by one recipe, and print what each gains and costs.

    python tools/ladder.py --data configs/_base_/partitions/camvid_1-16.py --seeds 0 1 2
    python tools/ladder.py --data my_data.py --methods supervised esl unimatch --jobs 2
    python tools/ladder.py --data my_data.py --methods supervised --row soft esl variant=dsl
    python tools/ladder.py --data my_data.py --minutes 25           # goes on the next time
    python tools/ladder.py --data my_data.py --table                # what there is; trains nothing

``--data`` is a config that trains a segmentor on a SemiDataset: data, network, optimiser, schedule,
evaluation (docs/configs.md says how it is made). Each method wraps it with nothing changed but its
own keys, so the rows differ in the method alone; ``{seed}`` in an option stands for the seed. What
is finished is not trained again, what was interrupted goes on. Where the config tests on other
images than it validates on, the last checkpoint is tested, and the table is of the test.
"""
from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli_common import checkpoint_errors, program, ready

from mmseg_esl.commands import command, here
from mmseg_esl.terminal import say


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=here(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, metavar='CONFIG')
    parser.add_argument('--methods', nargs='+', default=[], metavar='NAME',
                        help='all (the default, if there is no --row), or some of those that '
                             f'{command("methods")} lists')
    parser.add_argument('--row', nargs='+', action='append', default=[], metavar='ARG',
                        help='a name, a method, and KEY=VALUE of its semi_train_cfg')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ladder'))
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--start', nargs='+', default=[], metavar='CHECKPOINT',
                        help='trained segmentors, plain or of a supervised run, from which all '
                             'networks begin; {seed} in a path stands for the seed. Where a '
                             'method trains two, the second begins from a second one')
    parser.add_argument('--minutes', type=float, default=float('inf'),
                        help='then stop the runs, which save, and print the table; so does Ctrl-C')
    parser.add_argument('--table', action='store_true', help='print the table alone')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser.parse_args(argv)


def main(argv=None) -> str:
    """Do what the command line says; returns the table that it prints."""
    args = parse_args(argv)
    ready()
    with checkpoint_errors():  # of --start
        return run(args)


def run(args) -> str:
    from mmseg_esl.conversion import Refused, methods
    from mmseg_esl.ladder import Limit, Row, Rung, finish, table
    from mmseg_esl.storage.atomic import atomic_file
    limit = Limit(args.minutes)
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
        rungs = [Rung(row, seed, out, tuple(args.cfg_options), tuple(args.start))
                 for seed in args.seeds for row in rows]
        out.mkdir(parents=True, exist_ok=True)
        for row in rows:
            with atomic_file(out / f'{row.name}.py') as file:  # a run may be reading it
                file.write(row.leaf(data).encode())
        faults = []
        if not args.table:
            left = [rung for rung in rungs if not rung.finished]
            print(f'{len(rungs) - len(left)} of {len(rungs)} runs are finished', flush=True)
            with limit, ThreadPoolExecutor(args.jobs) as pool:
                for rung, fault in zip(left, pool.map(
                        lambda r: finish(r, limit.over), left)):
                    say(fault or f'{rung.folder.name} is finished')
                    faults += [fault] if 'ended with' in fault else []
        text = table(rows, rungs)
        print(text, flush=True)
        if limit.signal:
            sys.exit(128 + limit.signal)
        if faults:
            sys.exit(1)
        return text
    except (Refused, OSError, ValueError) as error:
        sys.exit(f'{program()}: {error}')


if __name__ == '__main__':
    main()
