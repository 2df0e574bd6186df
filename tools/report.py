"""One training run as one HTML page: ``python tools/report.py WORK_DIR [--out report.html]``.

The page is complete in itself and needs no network: docs/report.md.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from cli_common import installed, program

from mmseg_esl.commands import command
from mmseg_esl.processes import ending_with_us
from mmseg_esl.storage.atomic import atomic_file

VISUALIZE = Path(__file__).resolve().parent / 'visualize.py'


def parse_args():
    parser = argparse.ArgumentParser(description='Write one HTML page about one training run.')
    parser.add_argument('work_dir', type=Path, help="the run's work folder")
    parser.add_argument('--out', type=Path, metavar='FILE',
                        help='the page (default: report.html in the work folder)')
    parser.add_argument('--baseline', nargs='+', default=[], metavar='DIR', type=Path,
                        help='finished supervised runs: the page says whether the unlabelled '
                             'images help (default: WORK_DIR_supervised, if it is there)')
    parser.add_argument('--pictures', action='store_true',
                        help=f'first run {command("visualize")} on the last checkpoint, into '
                             'WORK_DIR/pictures')
    return parser.parse_args()


def make_pictures(folder: Path) -> None:
    """Run tools/visualize.py on the run's config and last checkpoint.

    Raises:
        ValueError: there is no checkpoint, or it fails; with its last words.
    """
    from mmseg_esl.results.run import config_of, read_run
    run = read_run(folder, check=False)
    checkpoint = last_checkpoint(folder)
    command = [sys.executable, VISUALIZE, config_of(folder, run.starts[-1]), checkpoint,
               '--dumped', '--what', 'all', '--out', folder / 'pictures']
    # on a terminal its progress is seen
    done = subprocess.run(ending_with_us(command), text=True, stdout=subprocess.PIPE,
                          stderr=None if sys.stderr.isatty() else subprocess.STDOUT)
    if done.returncode:
        raise ValueError(f'{" ".join(map(str, command))} failed with status {done.returncode}:\n'
                         f'{done.stdout[-3000:].strip()}\nWithout --pictures the page is written '
                         'with what pictures there are')


def last_checkpoint(folder: Path) -> Path:
    """What ``last_checkpoint`` names; in the folder itself, should that have been moved."""
    from mmseg_esl.storage.resumable import read_pointer
    path = read_pointer(folder, folder)
    if path is not None:
        return path
    raise ValueError(f"{folder}: no checkpoint that 'last_checkpoint' names; pictures need one. "
                     'Leave --pictures out')


def main() -> None:
    args = parse_args()
    with installed('report'):
        from mmseg_esl.report import make_page
    out = args.out or args.work_dir / 'report.html'
    try:
        if args.pictures:
            make_pictures(args.work_dir)
        page = make_page(args.work_dir, args.baseline).encode('utf-8')
        with atomic_file(out) as file:
            file.write(page)
    except (ValueError, OSError) as error:
        sys.exit(f'{program()}: {error}')
    print(f'{out}: {len(page) / 2 ** 20:.1f} MB')


if __name__ == '__main__':
    main()
