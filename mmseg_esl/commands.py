"""One command line: ``mmseg-esl COMMAND``, also ``python -m mmseg_esl COMMAND``.

Each command is a file of tools/, whose main() is called as if the file had been. Messages name
commands by ``command`` and ``here``, so that what they say can be typed where it is read.
"""
from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path

from .terminal import columns, fitted

COMMANDS = {
    'convert': ('convert_config.py', 'wrap a supervised config of yours in a method'),
    'doctor': ('doctor.py', 'check data and config before a long run'),
    'train': ('train.py', 'train'),
    'test': ('test.py', 'evaluate a checkpoint'),
    'compare': ('compare.py', 'do the unlabelled images help? runs beside supervised ones'),
    'report': ('report.py', 'one run as one HTML page'),
    'predict': ('predict.py', 'masks for folders of images'),
    'export': ('export_segmentor.py', 'a plain mmseg checkpoint of one network'),
    'onnx': ('export_onnx.py', 'the segmentor as an ONNX graph'),
    'visualize': ('visualize.py', 'paint what a checkpoint sees'),
    'summarize': ('summarize.py', 'tables of finished runs'),
    'ladder': ('ladder.py', 'train several methods by one recipe'),
    'splits': ('make_splits.py', 'lists of labelled and unlabelled images'),
    'cost': ('cost.py', 'operations and memory of a step'),
    'methods': ('methods.py', 'list the methods'),
}
CALLED = 'MMSEG_ESL_CALLED'  # while a command runs: how it was called, 'mmseg-esl' as a rule


def command(name: str) -> str:
    """How the user calls a command where they stand: 'mmseg-esl doctor' or a path in tools/."""
    called = os.environ.get(CALLED)
    return f'{called} {name}' if called else f'python {tool(COMMANDS[name][0])}'


def tool(file: str) -> str:
    """The path of a file of tools/, from where the user stands."""
    return Path(os.path.relpath(tools() / file)).as_posix()


def here(text: str) -> str:
    """A text in which each ``python tools/NAME.py`` has become what the user calls it."""
    names = {file: name for name, (file, _) in COMMANDS.items()}

    def said(match) -> str:
        file = match.group(1)
        return command(names[file]) if file in names else f'python {tool(file)}'

    return re.sub(r'python tools/([\w/]+\.py)', said, text)


def command_line() -> str:
    """This process's command, to be typed again; a file of tools/ comes without ``python``."""
    first, *rest = sys.argv
    called = os.environ.get(CALLED)  # of a process that a command started, too
    typed = called and first.startswith(f'{called} ')
    return ' '.join([first if typed else shlex.quote(first), *map(shlex.quote, rest)])


def tools() -> Path:
    """The folder of the commands' files: of the wheel, or of the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / '.mim/tools'
    return inside if inside.is_dir() else package.parent / 'tools'


def usage(called: str) -> str:
    width = max(map(len, COMMANDS))
    return '\n'.join([f'usage: {called} COMMAND [arguments]; COMMAND --help says more', '',
                      *(f'  {name:{width}}  {line}' for name, (_, line) in COMMANDS.items())])


def main(argv: list[str] | None = None, called: str = 'mmseg-esl') -> None:
    """Run a command; the exit status is the command's, 2 for an unknown one.

    Args:
        argv: the command and its arguments; None: the process's.
        called: what the user typed before them.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ('-h', '--help'):
        print(usage(called))
        return
    if argv[0] == '--version':
        from mmseg_esl import __version__
        print(__version__)
        return
    name, *rest = argv
    if name not in COMMANDS:
        print(f"{called}: there is no command '{name}'\n\n{usage(called)}", file=sys.stderr)
        sys.exit(2)
    os.environ[CALLED] = called
    # argparse names the program by it
    sys.argv = [f'{called} {name}', *rest]
    sys.path.insert(0, str(tools()))  # the files share cli_common.py
    path = tools() / COMMANDS[name][0]
    spec = importlib.util.spec_from_file_location(f'mmseg_esl_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for what their annotations name
    spec.loader.exec_module(module)
    try:
        module.main()
    except SystemExit as end:
        if isinstance(end.code, str):  # a sentence
            sys.exit(fitted(end.code, 0, columns(sys.stderr)))
        raise
