"""What mmengine, mmcv and mmsegmentation need on a recent torch or without a compiler.

``install()`` is called by ``mmseg_esl.register`` and by the tools, before anything imports
``mmseg.models``. Every shim is one function; its docstring says when it has become unnecessary, and
it looks at the installation before it acts: where the stock stack works, nothing is changed.
"""
from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import os.path as osp
import sys
import warnings
from types import ModuleType

from .check import check_stack, missing

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
    provide_distutils()
    define_torchvision_schemas()
    serve_mmcv_ext()
    check_stack()
    load_checkpoints_safely()
    read_config_texts_as_data()
    write_metrics_once()
    map_onedl_packages()
    name_own_configs()
    _installed = True


# ------------------------------------------------------------------------------------------- Python


def provide_distutils() -> None:
    """Let mmengine's collect_env, which every Runner calls, import distutils on Python 3.12.

    setuptools brings a copy, which is found once setuptools is imported, or from the beginning
    where it is installed beside Python (not where it lies on PYTHONPATH). Unnecessary when mmengine
    does without.
    """
    if missing('distutils') and not missing('setuptools'):
        importlib.import_module('setuptools')

# ---------------------------------------------------------------------------------------- mmcv-lite


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
        return importlib.machinery.ModuleSpec(name, MmcvExtFinder, origin='mmseg_esl.stack')

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
    if not missing('mmcv') and missing('mmcv._ext') and MmcvExtFinder not in sys.meta_path:
        sys.meta_path.append(MmcvExtFinder)

# -------------------------------------------------------------------------------------- checkpoints


class SafeTorch(ModuleType):
    """torch as mmengine's loaders see it: all of it, but ``load`` is safe_loading's."""

    def __getattr__(self, name: str):
        if name == 'load':
            from ..storage.safe_loading import load
            return load
        return getattr(sys.modules['torch'], name)


def load_checkpoints_safely() -> None:
    """Let mmengine load checkpoints by :mod:`mmseg_esl.storage.safe_loading`, never unsafely.

    mmengine unpickles whatever a file says with torch before 2.6, and whatever comes from a URL
    with any torch; from 2.6 on it cannot load its own checkpoints, which contain its HistoryBuffer
    and numpy arrays. The OneDL fork falls back to unsafe loading where the safe way refuses a file.
    Unnecessary when mmengine's loaders refuse what is outside an allow-list of theirs.
    """
    from mmengine.runner import checkpoint

    from ..storage import safe_loading

    checkpoint.CheckpointLoader.register_scheme('', loader=safe_loading.load_from_local, force=True)
    # of remote schemes (s3, petrel, pavi) and of local model zoos
    checkpoint.torch = SafeTorch('torch')
    checkpoint.load_url = safe_loading.load_url  # which the loaders of http and model zoos call
    if hasattr(checkpoint, '_safe_torch_load'):  # so is the fork's one way to torch.load called
        checkpoint._safe_torch_load = safe_loading.load


def read_config_texts_as_data() -> None:
    """Let mmengine read the config that lies in a checkpoint as literals, never execute it.

    ``Runner.resume`` and the inferencers hand it to ``Config.fromstring``, which runs it as Python.
    An inferencer also builds what it finds there: a type must be a registry's.
    Unnecessary when mmengine parses such texts.
    """
    from mmengine.config import Config
    from mmengine.infer import BaseInferencer

    from ..storage.dumped import parse_config, refuse_paths_to_code

    stock_text, stock_model = Config.fromstring, BaseInferencer._init_model
    if getattr(stock_text, 'of_mmseg_esl', False):
        return

    def fromstring(cfg_str: str, file_format: str) -> Config:
        if file_format != '.py':
            return stock_text(cfg_str, file_format)
        return Config(parse_config(cfg_str, 'the config in a checkpoint'))

    def checked(cfg_str: str, file_format: str) -> Config:
        cfg = fromstring(cfg_str, file_format)
        refuse_paths_to_code(cfg._cfg_dict, 'the config in a checkpoint')
        return cfg

    def _init_model(self, cfg, weights, device='cpu'):
        Config.fromstring = staticmethod(checked)
        try:
            return stock_model(self, cfg, weights, device)
        finally:
            Config.fromstring = staticmethod(fromstring)

    fromstring.of_mmseg_esl = True
    Config.fromstring = staticmethod(fromstring)
    BaseInferencer._init_model = _init_model

# ------------------------------------------------------------------------------------------ metrics


def write_metrics_once() -> None:
    """Let the main process alone write the file of a test's metrics.

    Every process of a distributed test does, one over the other: they differ in their times, so
    that at times the longer one's end stays behind the shorter one. Unnecessary when mmengine's
    LoggerHook asks for the rank.
    """
    from mmengine.dist import master_only
    from mmengine.hooks import logger_hook

    if not hasattr(logger_hook.dump, '__wrapped__'):  # master_only leaves it
        logger_hook.dump = master_only(logger_hook.dump)

# -------------------------------------------------------------------------------------- torchvision


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
    if missing('torchvision') or missing('torch'):
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

# -------------------------------------------------------------------------------------------- forks


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
