"""Write a short config that wraps a supervised one of yours in a method.

``python tools/convert_config.py SUPERVISED.py --unlabeled DIR --out OUT.py``. It builds your model,
so errors about heads that cannot be wrapped appear here and not in the first step of training.
With ``--also-supervised`` the fair baseline is written beside it, for ``tools/compare.py``.
"""

import argparse
import os
import sys

from cli_common import ready

from mmseg_esl.commands import command
from mmseg_esl.storage.atomic import atomic_file
from mmseg_esl.terminal import say


def parse_args():
    parser = argparse.ArgumentParser(
        description='Write a config that wraps a supervised one in a method.')
    parser.add_argument('config', help="your config: a path, or a name such as 'mmseg::psp...py'")
    parser.add_argument('--unlabeled', required=True, metavar='DIR',
                        help='folder of images without labels (nested, any of the usual suffixes)')
    parser.add_argument('--out', required=True, metavar='FILE', help='config to write')
    parser.add_argument('--method', metavar='NAME',
                        help=f'one of those that {command("methods")} lists; default: esl_plus')
    parser.add_argument('--also-supervised', action='store_true',
                        help='write FILE_supervised.py too: your training on the same images and '
                             'iterations without the unlabelled ones, to compare with')
    parser.add_argument('--max-iters', type=int, metavar='N',
                        help='length of the training; needed where your schedule counts epochs')
    parser.add_argument('--force', action='store_true', help='overwrite FILE')
    return parser.parse_args()


def check_out(out: str, force: bool) -> None:
    """Leave with a sentence where nothing can, or should, be written."""
    if not out.endswith('.py'):
        sys.exit(f'--out {out}: the name of a config ends with .py')
    if os.path.exists(out) and not force:
        sys.exit(f'--out {out} is there already: --force overwrites it')
    folder = os.path.dirname(out) or os.curdir
    if not os.path.isdir(folder):
        sys.exit(f'--out {out}: there is no folder {folder}')


def main() -> None:
    args = parse_args()
    wanted = {args.out: args.method}
    if args.also_supervised and args.method == 'supervised':
        sys.exit('--also-supervised writes the baseline of another method: leave it out, or '
                 '--method supervised')
    if args.also_supervised:
        wanted[f'{args.out[:-len(".py")]}_supervised.py'] = 'supervised'
    for out in wanted:
        check_out(out, args.force)
    if args.max_iters is not None and args.max_iters < 1:
        sys.exit(f'--max-iters {args.max_iters}: give a positive number')
    ready()
    import mmseg_esl.register  # noqa: F401 - registers every component
    from mmseg_esl.conversion import DEFAULT, Refused, convert
    try:
        made = {out: convert(args.config, args.unlabeled, out, args.max_iters, method or DEFAULT)
                for out, method in wanted.items()}
    except Refused as error:
        sys.exit(f'{args.config} was not converted: {error}')
    for out, conversion in made.items():
        with atomic_file(out) as file:
            file.write(conversion.text.encode())
        print(f'wrote {out}')
    for title, sentences in (('set', made[args.out].done), ('please check', made[args.out].check)):
        say('\n'.join([f'{title}:', *(f'  - {sentence}' for sentence in sentences)]), hang=2)
    print('next:')
    for line in next_commands(list(wanted)):
        print(f'  {line}')


def next_commands(configs: list[str]) -> list[str]:
    """What to type then, in order."""
    folders = [f'work_dirs/{os.path.basename(config)[:-len(".py")]}' for config in configs]
    out = [f'{command("doctor")} {configs[0]}',
           *(f'{command("train")} {config}' for config in configs)]
    if len(configs) > 1:
        out.append(f'{command("compare")} {" ".join(folders)}')
    return [*out, f'{command("report")} {folders[0]}']


if __name__ == '__main__':
    main()
