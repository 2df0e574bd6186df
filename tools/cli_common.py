"""What the command lines share.

Nothing here, or at the top of a tool, imports torch or mm*: ``--help`` and a mistyped option are
answered at once. A tool's main() parses the arguments, calls ``ready()``, and imports what it needs
then.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import os.path as osp
import sys
import warnings

# the package beside this folder goes first, so that a clone works without being installed; in an
# installed package (mmseg_esl/.mim/tools) there is none
_ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
if osp.isdir(osp.join(_ROOT, 'mmseg_esl')):
    sys.path.insert(0, _ROOT)

from mmseg_esl import stack
from mmseg_esl.terminal import say


def program() -> str:
    """What the user called, as argparse names it: 'train.py' or 'mmseg-esl train'."""
    return osp.basename(sys.argv[0])


def ready(status: int = 1) -> None:
    """Mend the stack, before anything of it is imported.

    Where it cannot work, the tool ends with what has to be installed, and the exit status.
    """
    try:
        stack.install()
    except ImportError as error:
        say(f'{program()}: {error}', file=sys.stderr)
        sys.exit(status)


def train_nothing() -> None:
    """Pass over what mmseg says of losses and shapes while it builds: it counts in training."""
    warnings.filterwarnings('ignore', category=UserWarning, module=r'(mmseg|mmengine)\.')


@contextlib.contextmanager
def installed(extra: str):
    """A package that an import inside does not find ends in how it is installed.

    Args:
        extra: of setup.py, which brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"{program()}: {error.name} is not installed: pip install 'mmseg_esl[{extra}]' "
                 f'brings it. {stack.PAGE}')


class CfgOptions(argparse.Action):
    """mmengine's DictAction, which is imported when the option is given."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        wrong = [value for value in values if '=' not in value]
        if wrong:
            parser.error(f"{option_string}: '{wrong[0]}' is no KEY=VALUE; leave no blanks around = "
                         'and in lists')
        ready()
        from mmengine.config import DictAction
        DictAction(self.option_strings, self.dest, nargs=self.nargs)(
            parser, namespace, values, option_string)


def add_cfg_options(parser, more: str = '') -> None:
    """Add ``--cfg-options``."""
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE',
                        help=f'override keys of the config{more}')


def add_common_options(parser) -> None:
    """Add the options that mmsegmentation's own train.py and test.py have in common."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    add_cfg_options(parser, ', e.g. train_cfg.max_iters=100 img_scale="(512,256)" a.b="[1,2]"; '
                            'quote lists and leave no blanks in them')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='what started the processes (dist_train.sh: pytorch)')
    # given by older launchers; newer ones set the environment variable
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


@contextlib.contextmanager
def checkpoint_errors():
    """A checkpoint that cannot be read or is refused, and a folder in use, end in a sentence."""
    import pickle

    from mmseg_esl.storage.errors import Misfit, NoCheckpoint, Unreadable
    from mmseg_esl.storage.lock import Locked
    try:
        yield
    except (pickle.UnpicklingError, Misfit, NoCheckpoint, Unreadable, Locked) as error:
        sys.exit(f'{program()}: {error}')


def config_file(name: str) -> str:
    """The file of a config: its path, or where a name such as ``mmseg_esl::esl/...`` leads."""
    from mmengine.config import Config
    return Config._get_cfg_path(name, '')[0] if '::' in name else name


def load_config(args):
    """Read the config, apply the command line to it, and adapt it to a machine without a GPU."""
    from mmengine.config import Config
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    name = config_file(args.config)
    if not osp.isfile(name):
        sys.exit(f"{program()}: there is no config '{args.config}'")
    cfg = Config.fromfile(name)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    stack.prepare_cpu(cfg)
    return cfg
