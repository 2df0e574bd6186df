"""Loading checkpoints without executing anything that they name.

:func:`load_from_local`, :func:`load` and :func:`load_url` serve in place of mmengine's own loaders
(see ``stack.shims.load_checkpoints_safely``). There is no fall-back to an unsafe way of loading.
Written by ``SemiCheckpointHook``, a checkpoint needs no allow-list, and gets none; what mmengine's
own CheckpointHook writes beside tensors is read by ``stand_ins``: plain numbers and text only.
"""

from __future__ import annotations

import os
import os.path as osp
import pickle
import re

from .old_torch import restricted_pickle
from .stand_ins import Array, History, Kind, named, real


def load_from_local(filename: str, map_location=None):
    """Load a local checkpoint.

    Args:
        filename: path of the file; ``~`` is expanded.
        map_location: as of :func:`torch.load`.

    Raises:
        FileNotFoundError: there is no such file.
        pickle.UnpicklingError: the file names a global outside the allow-list; the message names
            file, global and remedy.
        RuntimeError: the file is cut off or damaged; the message names it.
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
        return _load(file, map_location)
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(_refusal(name, str(error))) from error
    except (RuntimeError, EOFError) as error:
        raise RuntimeError(f'checkpoint {name} cannot be read ({_last_line(error)}): it is cut '
                           'off, damaged or no checkpoint') from error


def _load(file, map_location):
    """torch.load: without any allow-list, then with the stand-ins for what mmengine writes."""
    import torch

    if not has_allow_list():
        return real(torch.load(file, map_location=map_location, pickle_module=restricted_pickle()))
    start = file.tell() if hasattr(file, 'tell') else None
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        if start is not None:
            file.seek(start)
    # only what is not there yet: leaving the context would take away what the user allowed
    present = torch.serialization.get_safe_globals()
    wanted = [(value, name) for name, value in named().items()] + [Array, Kind, History]
    with torch.serialization.safe_globals([entry for entry in wanted if entry not in present]):
        return real(torch.load(file, map_location=map_location, weights_only=True))


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
