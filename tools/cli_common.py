"""What train.py and test.py share: options, and a config made ready for this machine."""

import contextlib
import os
import os.path as osp
import pickle
import sys

# the package beside this folder goes first, so that a clone works without being installed; in an
# installed package (mmseg_esl/.mim/tools) there is none
_ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
if osp.isdir(osp.join(_ROOT, 'mmseg_esl')):
    sys.path.insert(0, _ROOT)

from mmseg_esl import stack

stack.install()

from mmengine.config import Config, DictAction

from mmseg_esl.storage.errors import Misfit, NoCheckpoint, Unreadable
from mmseg_esl.storage.lock import Locked


def add_common_options(parser) -> None:
    """Add the options that mmsegmentation's own train.py and test.py have in common."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override keys of the config, e.g. train_cfg.max_iters=100 '
             'img_scale="(512,256)" a.b="[1,2]"; quote lists and leave no blanks in them')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='what started the processes (dist_train.sh: pytorch)')
    # given by older launchers; newer ones set the environment variable
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


@contextlib.contextmanager
def checkpoint_errors():
    """A checkpoint that cannot be read or is refused, and a folder in use, end in a sentence."""
    try:
        yield
    except (pickle.UnpicklingError, Misfit, NoCheckpoint, Unreadable, Locked) as error:
        sys.exit(f'{osp.basename(sys.argv[0])}: {error}')


def config_file(name: str) -> str:
    """The file of a config: its path, or where a name such as ``mmseg_esl::esl/...`` leads."""
    return Config._get_cfg_path(name, '')[0] if '::' in name else name


def load_config(args) -> Config:
    """Read the config, apply the command line to it, and adapt it to a machine without a GPU."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    name = config_file(args.config)
    if not osp.isfile(name):
        sys.exit(f"{osp.basename(sys.argv[0])}: there is no config '{args.config}'")
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
