"""Faults of an installation, and the commands that mend them."""
from __future__ import annotations

import importlib
import importlib.util
import os.path as osp
import re
import sys

PAGE = 'docs/install.md says more'
ADVICE = """\
Any one of these installs a stack that works (give a machine without a GPU PyTorch's CPU index):
  pip install 'torch>=2.0' mmengine mmcv-lite==2.1.0 mmsegmentation ftfy regex 'setuptools<81'
  pip install 'torch>=2.0' mmengine mmcv==2.1.0 mmsegmentation ftfy regex 'setuptools<81'
  pip install 'torch>=2.0' onedl-mmengine onedl-mmcv onedl-mmsegmentation
""" + PAGE


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
    for name, what in (('torch', "'torch>=2.0'"), ('mmengine', 'mmengine'),
                       ('mmcv', 'mmcv-lite==2.1.0 (or mmcv)'), ('mmseg', "'mmsegmentation>=1.0'")):
        fault = _import_fault(name, what)
        if fault:
            faults.append(fault)
    if not missing('torch') and _version(importlib.import_module('torch').__version__) < (2, 0):
        faults.append(f'torch {sys.modules["torch"].__version__} is too old: pip install '
                      "'torch>=2.0'")
    if 'mmseg' in sys.modules and _version(sys.modules['mmseg'].__version__) < (1, 0):
        faults.append(f'mmsegmentation {sys.modules["mmseg"].__version__} is too old: pip '
                      "install 'mmsegmentation>=1.0'")
    if missing('pkg_resources') and _source_mentions('mmengine.utils.package_utils',
                                                      'pkg_resources'):
        faults.append("pkg_resources is missing, which mmengine needs to inherit 'mmseg::' "
                      "configs: pip install 'setuptools<81'")
    for name in ('ftfy', 'regex'):
        if missing(name) and _source_mentions('mmseg.utils.tokenizer', f'import {name}'):
            faults.append(f'{name} is missing, which mmseg.utils imports: pip install {name}')
    return faults


def _import_fault(name: str, what: str) -> str:
    """Import a top-level package; return '' or the sentence that says why it cannot be imported."""
    if missing(name):
        return f'{name} is not installed: pip install {what}'
    try:
        importlib.import_module(name)
    except (ImportError, AssertionError, OSError, RuntimeError) as error:
        # mmseg asserts on the versions of mmcv and mmengine; a broken build raises OSError
        return f'import {name} fails ({error}): install {what}'
    return ''


def missing(name: str) -> bool:
    """Whether no module of that (possibly dotted) name can be found."""
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError, AssertionError):
        return name not in sys.modules


def _source_mentions(module: str, text: str) -> bool:
    """Whether the source file of a module holds the text; the module itself is not executed."""
    if missing(module):
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
