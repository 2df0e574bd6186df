"""Loading checkpoints without executing anything that they name.

:func:`load_from_local`, :func:`load` and :func:`load_url` serve in place of mmengine's own loaders
(see ``stack.shims.load_checkpoints_safely``). There is no fall-back to an unsafe way of loading.
Written by ``SemiCheckpointHook``, a checkpoint needs no allow-list; the one here is for those of
mmengine's own CheckpointHook.
"""

from __future__ import annotations

import os
import os.path as osp
import pickle
import re
from types import SimpleNamespace

from .finite_weights import refuse_nan


def load_from_local(filename: str, map_location=None):
    """Load a local checkpoint.

    Args:
        filename: path of the file; ``~`` is expanded.
        map_location: as of :func:`torch.load`.

    Raises:
        FileNotFoundError: there is no such file.
        pickle.UnpicklingError: the file names a global outside the allow-list; the message names
            file, global and remedy.
        RuntimeError: the file is cut off or damaged, or its weights hold a NaN; the message names
            it.
    """
    filename = osp.expanduser(filename)
    if not osp.isfile(filename):
        raise FileNotFoundError(f'checkpoint {filename} does not exist')
    return load(filename, map_location=map_location)


def load(file, map_location=None, weights_only=None):
    """Load a checkpoint from a path or from a binary file object.

    Args:
        file: path or file object.
        map_location: as of :func:`torch.load`.
        weights_only: takes the place of an argument of the OneDL fork; loading is safe always.

    Raises:
        pickle.UnpicklingError, RuntimeError: see :func:`load_from_local`.
    """
    name = file if isinstance(file, (str, os.PathLike)) else 'that was handed over'
    try:
        content = _load(file, map_location)
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(_refusal(name, str(error))) from error
    except (RuntimeError, EOFError) as error:
        raise RuntimeError(f'checkpoint {name} cannot be read ({_last_line(error)}): it is cut '
                           'off, damaged or no checkpoint') from error
    refuse_nan(content, name)
    return content


def _load(file, map_location):
    """torch.load with the allow-list, in the way that the installed torch has."""
    import torch

    if not has_allow_list():
        return torch.load(file, map_location=map_location, pickle_module=restricted_pickle())
    # only what is not there yet: leaving the context would take away what the user allowed
    present = torch.serialization.get_safe_globals()
    missing = [entry for entry in allowed_globals() if entry not in present]
    with torch.serialization.safe_globals(missing):
        return torch.load(file, map_location=map_location, weights_only=True)


def has_allow_list() -> bool:
    """Whether torch has an allow-list of its own that takes a stand-in for a name (2.6)."""
    import torch

    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)


def load_url(url: str, model_dir=None, map_location=None, progress: bool = True, **kwargs):
    """Download a checkpoint into torch's cache, unless it is there, and load it safely.

    Args:
        url: where it is.
        model_dir: folder to keep it in (None: torch's).
        map_location: as of :func:`torch.load`.
        progress: whether to show the download.
        kwargs: ``file_name`` and ``check_hash`` of torch.hub.load_state_dict_from_url.

    Raises:
        as :func:`load_from_local`, beside what the download raises.
    """
    from urllib.parse import urlparse

    import torch

    folder = model_dir or osp.join(torch.hub.get_dir(), 'checkpoints')
    os.makedirs(folder, exist_ok=True)
    path = osp.join(folder, kwargs.get('file_name') or osp.basename(urlparse(url).path))
    if not osp.exists(path):
        digits = torch.hub.HASH_REGEX.search(path) if kwargs.get('check_hash') else None
        torch.hub.download_url_to_file(url, path, digits and digits.group(1), progress=progress)
    return load_from_local(path, map_location)


def _last_line(error) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _refusal(filename: str, reason: str) -> str:
    """The message for a checkpoint that the restricted unpickler refused."""
    found = re.search(r'GLOBAL (\S+)', reason)  # so in torch's messages, and in our own
    what = f"it names '{found.group(1)}'" if found else _last_line(reason)
    return (f'checkpoint {filename} is refused: {what}, which is not among the types that a '
            'checkpoint of mmengine contains. If you trust where the file comes from, either save '
            "its 'state_dict' alone in an environment that can read it, or (torch>=2.6) allow the "
            'named type with torch.serialization.add_safe_globals([...]) before loading.')


def allowed_globals() -> list:
    """What a checkpoint of mmengine's Runner may contain beside tensors.

    HistoryBuffer with its four statistics, numpy arrays and scalars of plain numbers. No object
    arrays, and nothing that takes code or a name to look up.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    core = np._core if hasattr(np, '_core') else np.core
    numbers = [type(np.dtype(kind)) for kind in '?bhilqBHILQefdFDUS']
    allowed = [HistoryBuffer, np.ndarray, np.dtype, *dict.fromkeys(numbers)]
    for package in ('numpy.core', 'numpy._core'):  # numpy 1 and 2 write different names
        allowed.append((core.multiarray._reconstruct, f'{package}.multiarray._reconstruct'))
        allowed.append((core.multiarray.scalar, f'{package}.multiarray.scalar'))
    # Pickle's protocol 2 writes a method as getattr(class, name). The real getattr would hand out
    # anything reachable; this one serves in its place and knows the statistics only.
    allowed.append((history_statistic, 'builtins.getattr'))
    return allowed


def history_statistic(owner, name):
    """``getattr`` for checkpoints: HistoryBuffer's own statistics, anything else is refused."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        of = getattr(owner, '__qualname__', type(owner).__name__)
        raise pickle.UnpicklingError(f'GLOBAL getattr({of},{name})')
    return getattr(HistoryBuffer, name)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'GLOBAL encode({encoding})')
    return text.encode(encoding)


def restricted_pickle():
    """A stand-in for the pickle module, for torch before 2.6, which has no such allow-list.

    It hands out what torch's own restricted unpickler does, and :func:`allowed_globals`.
    """
    from torch import _weights_only_unpickler

    known = dict(_weights_only_unpickler._get_allowed_globals())
    for entry in allowed_globals():
        value, name = entry if isinstance(entry, tuple) else (
            entry, f'{entry.__module__}.{entry.__qualname__}')
        known[name] = value
    known['_codecs.encode'] = _latin1  # how protocol 2 writes the bytes of a numpy array

    class Unpickler(pickle.Unpickler):

        def find_class(self, module, name):
            # protocol 2 has the names of Python 2: a plain 'getattr' is __builtin__.getattr
            full = f'{module.replace("__builtin__", "builtins")}.{name}'
            if full not in known:
                raise pickle.UnpicklingError(f'GLOBAL {full}')
            return known[full]

    def restricted_load(file, **kwargs):
        return Unpickler(file, **kwargs).load()

    return SimpleNamespace(__name__='restricted_pickle', Unpickler=Unpickler, load=restricted_load,
                           UnpicklingError=pickle.UnpicklingError)
