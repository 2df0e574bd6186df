"""Tables of finished runs: ``python tools/summarize.py WORK_DIRS... --out results``.

How to read them: docs/results/README.md.
"""

import argparse
import re
import sys
from pathlib import Path

from cli_common import installed, program

FIGURES = Path(__file__).resolve().parents[1] / 'docs/results/paper_results.csv'
PUBLISHED = FIGURES.with_name('published.csv')


def parse_args():
    parser = argparse.ArgumentParser(
        description="Mean and standard deviation of finished runs, beside published figures.")
    parser.add_argument('work_dirs', nargs='+', help='work folders of runs')
    parser.add_argument('--out', metavar='NAME',
                        help='write NAME.md and NAME.csv too; with --group NAME_PROTOCOL.*')
    parser.add_argument('--group', action='store_true', help='a table of each protocol')
    parser.add_argument('--metric', default='mIoU', help='default: mIoU')
    parser.add_argument('--per-class', action='store_true',
                        help='add the IoU of each class (and NAME_classes.csv)')
    parser.add_argument('--paper', metavar='CSV',
                        help="the paper's figures (default: docs/results/paper_results.csv)")
    parser.add_argument('--published', metavar='CSV',
                        help="others' figures (default: docs/results/published.csv)")
    return parser.parse_args()


def figures(path, usual: Path, read, option: str):
    """An installed package may lie without docs/: then nothing stands beside the results."""
    if path or usual.is_file():
        return read(path or usual)
    print(f'{usual} is not there: nothing of it stands beside ({option} names one)',
          file=sys.stderr)
    return None


def write(table, name: str, text: str, per_class: bool) -> None:
    from mmseg_esl.results import classes_to_csv, to_csv
    files = {'.md': text, '.csv': to_csv(table)}
    if per_class:
        files['_classes.csv'] = classes_to_csv(table)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in files.items():
        Path(name + suffix).write_text(content, encoding='utf-8')


def main() -> None:
    args = parse_args()
    with installed('all'):
        from mmseg_esl.results import (
            group,
            make_table,
            read_figures,
            read_published,
            read_run,
            to_markdown,
        )
        from mmseg_esl.results.run import as_training_leaves_it
    try:
        runs = [read_run(folder) for folder in dict.fromkeys(map(Path, args.work_dirs))]
        known = figures(args.paper, FIGURES, read_figures, '--paper')
        others = figures(args.published, PUBLISHED, read_published, '--published') or []
        groups = group(runs) if args.group else {'': runs}
        tables = {}
        for name, found in groups.items():
            with as_training_leaves_it(', '.join(str(run.folder) for run in found)):
                table = make_table(found, args.metric, known, others)
                tables[name] = table, to_markdown(table, args.per_class)
        for name, (table, text) in tables.items():
            print(text)
            if args.out:
                suffix = re.sub(r'[^\w.-]+', '-', f'_{name}') if name else ''
                write(table, args.out + suffix, text, args.per_class)
    except (ValueError, OSError) as error:
        sys.exit(f'{program()}: {error}')


if __name__ == '__main__':
    main()
