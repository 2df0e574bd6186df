"""One command line: ``mmseg-esl COMMAND``, also ``python -m mmseg_esl COMMAND``.

Each command is a file of tools/, whose main() is called as if the file had been.
"""
from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

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
    'methods': (None, 'list the methods'),
}
CALLED = 'MMSEG_ESL_COMMAND'  # set while a command runs: messages then name commands, not files


def command(name: str) -> str:
    """How the user calls a command where they stand: 'mmseg-esl doctor' or a path in tools/."""
    if os.environ.get(CALLED):
        return f'mmseg-esl {name}'
    path = Path(os.path.relpath(tools() / COMMANDS[name][0]))
    return f'python {path.as_posix()}'


def tools() -> Path:
    """The folder of the commands' files: of the wheel, or of the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / '.mim/tools'
    return inside if inside.is_dir() else package.parent / 'tools'


def usage() -> str:
    width = max(map(len, COMMANDS))
    return '\n'.join(['usage: mmseg-esl COMMAND [arguments]; COMMAND --help says more', '',
                      *(f'  {name:{width}}  {line}' for name, (_, line) in COMMANDS.items())])


def list_methods() -> None:
    import mmseg_esl.register  # noqa: F401 - registers every component
    from mmseg_esl.conversion import Method, methods
    for name in methods():
        method = Method(name)
        costs = zip(*method.model.passes(method.model.parse_cfg(
            method.cfg.get('semi_train_cfg'))).values())
        encoder, _ = (sum(parts) for parts in costs)
        print(f'{name:14} {method.title:26} {encoder:5g} forwards a pair; '
              f'networks: {", ".join(method.networks)}')


def main(argv: list[str] | None = None) -> None:
    """Run a command; the exit status is the command's, 2 for an unknown one."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ('-h', '--help'):
        print(usage())
        return
    if argv[0] == '--version':
        from mmseg_esl import __version__
        print(__version__)
        return
    name, *rest = argv
    if name not in COMMANDS:
        print(f"mmseg-esl: there is no command '{name}'\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    if name == 'methods':
        list_methods()
        return
    os.environ[CALLED] = name
    # argparse names the program by it
    sys.argv = [f'mmseg-esl {name}', *rest]
    sys.path.insert(0, str(tools()))  # the files share cli_common.py
    path = tools() / COMMANDS[name][0]
    spec = importlib.util.spec_from_file_location(f'mmseg_esl_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for what their annotations name
    spec.loader.exec_module(module)
    module.main()

