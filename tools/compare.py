"""Do the unlabelled images help? Supervised runs beside semi-supervised ones.

    python tools/compare.py work_dirs/sup_seed* work_dirs/esl_seed*

Work folders of finished runs, several seeds of each. Each method is compared with the supervised
runs among them (or with --baseline), seed by seed where both have it: the last validation, each
class, and a sentence that says whether the difference is more than noise.
"""

import argparse
import sys
from pathlib import Path

from cli_common import installed, program

from mmseg_esl.commands import here
from mmseg_esl.terminal import say


def parse_args():
    parser = argparse.ArgumentParser(
        description=here(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', help='work folders of runs')
    parser.add_argument('--baseline', nargs='+', default=[], metavar='DIR',
                        help='the supervised ones (default: those that are)')
    parser.add_argument('--metric', default='mIoU', help='default: mIoU')
    parser.add_argument('--out', metavar='FILE', help='write the Markdown there too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with installed('all'):
        from mmseg_esl.results.compare import compare
        from mmseg_esl.results.run import as_training_leaves_it
    try:
        with as_training_leaves_it(', '.join(args.work_dirs)):
            text = '\n\n'.join(found.markdown() for found in compare(
                args.work_dirs, args.baseline, args.metric))
        say(text)
        if args.out:
            Path(args.out).write_text(text + '\n', encoding='utf-8')
    except (ValueError, OSError) as error:
        sys.exit(f'{program()}: {error}')


if __name__ == '__main__':
    main()
