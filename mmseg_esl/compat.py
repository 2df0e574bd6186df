"""What mmengine, mmcv and mmsegmentation need on a recent torch or without a compiler.

``install()`` is called by ``mmseg_esl.register`` and by the tools, before anything imports
``mmseg.models``. Every shim is one function; its docstring says when it has become unnecessary, and
it looks at the installation before it acts: where the stock stack works, nothing is changed.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import os
import os.path as osp
import re
import subprocess
import sys
import time
import warnings
from types import ModuleType

ADVICE = """\
Any one of these installs a stack that works (give a machine without a GPU PyTorch's CPU index):
  pip install 'torch>=2.0' mmengine mmcv-lite==2.1.0 mmsegmentation ftfy regex 'setuptools<81'
  pip install 'torch>=2.0' mmengine mmcv==2.1.0 mmsegmentation ftfy regex 'setuptools<81'
  pip install 'torch>=2.0' onedl-mmengine onedl-mmcv onedl-mmsegmentation"""

# distribution names of the maintained forks, which keep the import names
ONEDL_PACKAGES = {
    'mmseg': 'onedl-mmsegmentation',
    'mmdet': 'onedl-mmdetection',
    'mmpretrain': 'onedl-mmpretrain',
}

_installed = False
_torchvision_schemas = None  # a torch Library: its schemas live as long as it does


def install() -> None:
    """Check the stack and mend what is broken in it; calling it again does nothing.

    Raises:
        ImportError: the stack cannot work; the message lists every fault and what to install.
    """
    global _installed
    if _installed:
        return
    # mmengine's import of it, which no user can do anything about
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated', category=UserWarning)
    define_torchvision_schemas()
    serve_mmcv_ext()
    check_stack()
    load_checkpoints_safely()
    map_onedl_packages()
    name_own_configs()
    _installed = True


# ---------------------------------------------------------------------------------------- stack


def check_stack() -> None:
    """Refuse an installation that cannot work, in one message.

    Unnecessary when every mm* distribution declares what it needs: pkg_resources, ftfy and regex
    are undeclared today, and none of them pins torch.

    Raises:
        ImportError: with every fault found and the commands that mend it.
    """
    faults = find_faults()
    if faults:
        listed = '\n'.join(f'  - {fault}' for fault in faults)
        raise ImportError(f'mmseg_esl cannot run on this installation:\n{listed}\n{ADVICE}')


def find_faults() -> list:
    """Return one sentence per fault of the installed stack; an empty list when it can work."""
    faults = []
    for name, what in (('torch', 'torch>=2.0'), ('mmengine', 'mmengine'),
                       ('mmcv', 'mmcv-lite==2.1.0 (or mmcv)'), ('mmseg', 'mmsegmentation>=1.0')):
        fault = _import_fault(name, what)
        if fault:
            faults.append(fault)
    if not _missing('torch') and _version(importlib.import_module('torch').__version__) < (2, 0):
        faults.append(f'torch {sys.modules["torch"].__version__} is too old: install torch>=2.0')
    if 'mmseg' in sys.modules and _version(sys.modules['mmseg'].__version__) < (1, 0):
        faults.append(f'mmsegmentation {sys.modules["mmseg"].__version__} is too old: install '
                      'mmsegmentation>=1.0')
    if _missing('pkg_resources') and _source_mentions('mmengine.utils.package_utils',
                                                      'pkg_resources'):
        faults.append("pkg_resources is missing, which mmengine needs to inherit 'mmseg::' "
                      "configs: pip install 'setuptools<81'")
    for name in ('ftfy', 'regex'):
        if _missing(name) and _source_mentions('mmseg.utils.tokenizer', f'import {name}'):
            faults.append(f'{name} is missing, which mmseg.utils imports: pip install {name}')
    return faults


def _import_fault(name: str, what: str) -> str:
    """Import a top-level package; return '' or the sentence that says why it cannot be imported."""
    if _missing(name):
        return f'{name} is not installed: pip install {what}'
    try:
        importlib.import_module(name)
    except (ImportError, AssertionError, OSError, RuntimeError) as error:
        # mmseg asserts on the versions of mmcv and mmengine; a broken build raises OSError
        return f'import {name} fails ({error}): install {what}'
    return ''


def _missing(name: str) -> bool:
    """Whether no module of that (possibly dotted) name can be found."""
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError, AssertionError):
        return name not in sys.modules


def _source_mentions(module: str, text: str) -> bool:
    """Whether the source file of a module holds the text; the module itself is not executed."""
    if _missing(module):
        return False
    origin = importlib.util.find_spec(module).origin
    if not origin or not osp.isfile(origin):
        return False
    with open(origin, encoding='utf-8') as file:
        return text in file.read()


def _version(text: str) -> tuple:
    """'2.13.0+cpu' -> (2, 13); a part that is not a number counts as 0."""
    parts = [re.match(r'\d+', part) for part in text.split('.')[:2]]
    return tuple(int(part.group()) if part else 0 for part in parts)


# ------------------------------------------------------------------------------------ mmcv-lite


class MissingOperator:
    """Stands for a compiled operator of mmcv: importing it is fine, calling it is not."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args, **kwargs):
        raise NotImplementedError(
            f"mmcv's operator '{self.__name__}' is compiled code, which mmcv-lite does not have. "
            'Install full mmcv instead (pip uninstall mmcv-lite; pip install mmcv==2.1.0), or '
            'configure a model without this operator.')


class PlaceholderExt(ModuleType):
    """``mmcv._ext`` without compiled code: every operator exists and says that it is missing."""

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)
        if name in ('get_compiler_version', 'get_compiling_cuda_version'):
            return lambda: 'n/a (mmcv-lite)'  # asked by mmcv's collect_env, not operators
        return MissingOperator(name)


class MmcvExtFinder:
    """Finder and loader of the placeholder; last on sys.meta_path, so that a real one wins."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != 'mmcv._ext':
            return None
        return importlib.machinery.ModuleSpec(name, MmcvExtFinder, origin='mmseg_esl.compat')

    @staticmethod
    def create_module(spec):
        return PlaceholderExt(spec.name, 'Placeholder for the compiled operators of mmcv.')

    @staticmethod
    def exec_module(module):
        """Nothing to execute."""


def serve_mmcv_ext() -> None:
    """Let ``import mmcv.ops`` work on mmcv-lite, which lacks the compiled ``mmcv._ext``.

    Unnecessary when mmsegmentation imports without ``mmcv.ops`` (mmseg.utils imports it today), and
    inactive wherever full mmcv is installed.
    """
    if not _missing('mmcv') and _missing('mmcv._ext') and MmcvExtFinder not in sys.meta_path:
        sys.meta_path.append(MmcvExtFinder)


# ---------------------------------------------------------------------------------- checkpoints


def load_checkpoints_safely() -> None:
    """Let mmengine load checkpoints by :mod:`mmseg_esl.safe_loading`, never in an unsafe way.

    mmengine unpickles whatever a file says with torch before 2.6, and whatever comes from a URL
    with any torch; from 2.6 on it cannot load its own checkpoints, which contain its HistoryBuffer
    and numpy arrays. The OneDL fork falls back to unsafe loading where the safe way refuses a file.
    Unnecessary when mmengine's loaders refuse what is outside an allow-list of theirs.
    """
    from mmengine.runner import checkpoint

    from . import safe_loading

    checkpoint.CheckpointLoader.register_scheme('', loader=safe_loading.load_from_local, force=True)
    checkpoint.load_url = safe_loading.load_url  # which the loaders of http and model zoos call
    if hasattr(checkpoint, '_safe_torch_load'):  # so is the fork's one way to torch.load called
        checkpoint._safe_torch_load = safe_loading.load


# ----------------------------------------------------------------------------------- torchvision


def define_torchvision_schemas() -> None:
    """Let ``import torchvision`` work where its compiled operators do not match torch.

    A torchvision built for another torch cannot load its library, yet registers a fake ``nms``
    whose schema only that library defines, and fails; mmengine's collect_env imports it in
    every run.
    Unnecessary when torchvision was built for the installed torch, or is not installed.
    """
    global _torchvision_schemas
    if _torchvision_schemas is not None or 'torchvision' in sys.modules:
        return
    if _missing('torchvision') or _missing('torch'):
        return
    import torch

    if _torchvision_library_loads(torch):
        return
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for schema in ('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
                   'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'):
        try:
            library.define(schema)
        except RuntimeError:  # defined already: the library did load in part
            continue
    _torchvision_schemas = library


def _torchvision_library_loads(torch) -> bool:
    """Whether torchvision's own compiled library can be loaded (and now is)."""
    folder = osp.dirname(importlib.util.find_spec('torchvision').origin or '')
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    for name in sorted(os.listdir(folder)) if folder else ():
        if name.startswith('_C') and name.endswith(suffixes):
            try:
                torch.ops.load_library(osp.join(folder, name))
                return True
            except (OSError, RuntimeError):
                continue
    return False


# ----------------------------------------------------------------------------------------- forks


def map_onedl_packages() -> None:
    """Tell mmengine under which distribution name the OneDL forks are installed.

    ``mmseg::`` inheritance looks the distribution 'mmsegmentation' up; the fork is called
    'onedl-mmsegmentation'. Unnecessary when mmengine looks the import name up instead; inactive for
    a package whose original distribution is installed.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    for module, fork in ONEDL_PACKAGES.items():
        original = MODULE2PACKAGE.get(module)
        if original and not _distributed(original) and _distributed(fork):
            MODULE2PACKAGE[module] = fork


def name_own_configs() -> None:
    """Let configs inherit ``mmseg_esl::esl/...`` where this package is installed from a wheel.

    mmengine knows the packages of OpenMMLab by a list. Unnecessary when it looks others up too.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('mmseg_esl', 'mmseg_esl')


def _distributed(name: str) -> bool:
    """Whether a distribution of that name is installed."""
    try:
        importlib.metadata.version(name)
        return True
    except importlib.metadata.PackageNotFoundError:
        return False


# ------------------------------------------------------------------------------------ CPU runs


def prepare_cpu(cfg) -> None:
    """Make a config that was written for GPUs run where there is none; changes ``cfg`` in place.

    Mixed precision needs an accelerator, so an AmpOptimWrapper becomes an OptimWrapper with a
    warning. With a launcher the processes talk over gloo, started here because mmengine's
    ``init_dist`` calls ``torch.cuda.set_device``, and DistributedDataParallel gets no device ids.
    Unnecessary when mmengine does both itself. Does nothing where an accelerator is found.

    Args:
        cfg (mmengine.Config): the whole config, ``cfg.launcher`` already set.

    Raises:
        RuntimeError: the launcher did not set an environment variable that is needed.
    """
    from mmengine.device import get_device

    if get_device() != 'cpu':
        return
    _use_full_precision(cfg)
    if cfg.get('launcher', 'none') == 'none':
        return
    env_cfg = cfg.setdefault('env_cfg', {})
    dist_cfg = env_cfg.setdefault('dist_cfg', {})
    dist_cfg['backend'] = 'gloo'
    start_gloo(cfg.launcher, timeout=dist_cfg.get('timeout'))
    wrapper = cfg.get('model_wrapper_cfg')
    if wrapper is None:
        # the arguments that mmengine itself uses when no wrapper is configured
        wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False,
                       find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper


def refuse_amp_on_cpu() -> None:
    """Say why ``--amp`` cannot be had: it is asked for explicitly, so it is not ignored.

    Raises:
        RuntimeError: there is no accelerator.
    """
    from mmengine.device import get_device

    if get_device() == 'cpu':
        raise RuntimeError('--amp needs an accelerator and none is visible to torch. Leave --amp '
                           'out to train in single precision on the CPU, or make a GPU visible '
                           '(CUDA_VISIBLE_DEVICES, a torch built for CUDA).')


def _use_full_precision(cfg) -> None:
    """Replace an AmpOptimWrapper, which refuses to run on CPU; said in the log."""
    optim = cfg.get('optim_wrapper')
    if optim is None or optim.get('type') != 'AmpOptimWrapper':
        return
    from mmengine.logging import print_log

    optim['type'] = 'OptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        optim.pop(key, None)
    print_log('optim_wrapper.type=AmpOptimWrapper needs an accelerator and none is visible: '
              'training goes on in single precision (OptimWrapper)', 'current', logging.WARNING)


def start_gloo(launcher: str, timeout=None) -> None:
    """Initialise a gloo process group from the launcher's environment, unless one exists.

    Args:
        launcher: 'pytorch' (torchrun), 'slurm' or 'mpi'.
        timeout: seconds after which a collective gives up, or None for torch's default.

    Raises:
        RuntimeError: an environment variable is missing; the message names it and the launcher.
        ValueError: an unknown launcher.
    """
    import datetime

    from torch import distributed

    if distributed.is_initialized():
        return
    if launcher == 'slurm':
        _environment_from_slurm()
    elif launcher == 'mpi':
        _environment_from_mpi()
    elif launcher != 'pytorch':
        raise ValueError(f"launcher is '{launcher}'; choose none, pytorch, slurm or mpi")
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        _variable(name, launcher)
    os.environ.setdefault('LOCAL_RANK', os.environ['RANK'])
    options = {} if timeout is None else dict(timeout=datetime.timedelta(seconds=timeout))
    distributed.init_process_group('gloo', **options)
    atexit.register(_close_process_group)


def _close_process_group() -> None:
    """Let gloo's threads finish before the interpreter does; at the end of the process.

    A thread that still holds the tensors of the last collective wants the interpreter's lock in
    order to let them go, and where there is no interpreter any more the process aborts ('terminate
    called without an active exception'), which torchrun takes for a failure. Closing the group is
    not enough: a DistributedDataParallel that is still there keeps it alive.
    """
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    time.sleep(0.2)


def _variable(name: str, launcher: str) -> str:
    """An environment variable that the launcher should have set."""
    if name not in os.environ:
        hint = {'pytorch': 'start with tools/dist_train.sh or torchrun',
                'slurm': 'start with tools/slurm_train.sh or srun',
                'mpi': 'start with mpirun and export MASTER_ADDR'}[launcher]
        raise RuntimeError(f"--launcher {launcher} needs the environment variable {name}, which is "
                           f'not set: {hint}, or use --launcher none')
    return os.environ[name]


def _environment_from_slurm() -> None:
    """Set torch's rendezvous variables from those of srun."""
    rank, world = _variable('SLURM_PROCID', 'slurm'), _variable('SLURM_NTASKS', 'slurm')
    os.environ.update(RANK=rank, WORLD_SIZE=world,
                      LOCAL_RANK=os.environ.get('SLURM_LOCALID', rank))
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        nodes = _variable('SLURM_NODELIST', 'slurm')
        hosts = subprocess.run(['scontrol', 'show', 'hostname', nodes], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
        os.environ['MASTER_ADDR'] = hosts.split()[0]


def _environment_from_mpi() -> None:
    """Set torch's rendezvous variables from those of Open MPI."""
    os.environ.update(RANK=_variable('OMPI_COMM_WORLD_RANK', 'mpi'),
                      WORLD_SIZE=_variable('OMPI_COMM_WORLD_SIZE', 'mpi'),
                      LOCAL_RANK=_variable('OMPI_COMM_WORLD_LOCAL_RANK', 'mpi'))
    os.environ.setdefault('MASTER_PORT', '29500')
