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

from .errors import NoCheckpoint, Unreadable
from .finite_weights import refuse_nan
from .old_torch import restricted_pickle
from .stand_ins import Array, History, Kind, named, real

_DICTS = ('state_dict', 'meta', 'message_hub', 'run_state', 'optimizer')


def load_from_local(filename: str, map_location=None):
    """Load a local checkpoint.

    Args:
        filename: path of the file; ``~`` is expanded.
        map_location: as of :func:`torch.load`.

    Raises:
        NoCheckpoint: there is no such file.
        pickle.UnpicklingError: the file names a global outside the allow-list; the message names
            file, global and remedy.
        Unreadable: the file is cut off, damaged or no checkpoint; the message names it.
        RuntimeError: its weights hold a NaN; the message names it.
    """
    filename = osp.expanduser(filename)
    if not osp.exists(filename):
        raise NoCheckpoint(f'checkpoint {filename} does not exist')
    return load(filename, map_location=map_location)


def load(file, map_location=None, weights_only=None):
    """Load a checkpoint from a path or from a binary file object.

    Args:
        file: path or file object.
        map_location: as of :func:`torch.load`.
        weights_only: takes the place of an argument of the OneDL fork; loading is safe always.

    Raises:
        pickle.UnpicklingError, Unreadable: see :func:`load_from_local`.
    """
    named = isinstance(file, (str, os.PathLike))
    name = file if named else 'that was handed over'
    if named and osp.exists(file) and not osp.isfile(file):
        kind = 'a folder' if osp.isdir(file) else 'no regular file'
        raise Unreadable(f'checkpoint {name} is {kind}: name the file')
    try:
        content = _load(file, map_location)
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(_refusal(name, str(error))) from error
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may ask for anything
        raise Unreadable(f'checkpoint {name} cannot be read ({_last_line(error)}): it is cut '
                         'off, damaged or no checkpoint') from error
    odd = malformed(content)
    if odd:
        raise Unreadable(f'checkpoint {name} is no checkpoint: {odd}')
    content = under_state_dict({key: value for key, value in content.items()
                                if value is not None or key not in _DICTS})
    refuse_nan(content, name)
    return content


def under_state_dict(content: dict) -> dict:
    """Weights under 'model', as DeiT, DINO, MAE and Swin publish them, under 'state_dict'."""
    import torch

    weights = content.get('model')
    if 'state_dict' in content or not isinstance(weights, dict) or not weights or not all(
            isinstance(value, torch.Tensor) for value in weights.values()):
        return content
    return {'state_dict': weights, **{k: v for k, v in content.items() if k != 'model'}}


def malformed(content) -> str:
    """What is not as everything that reads a checkpoint takes it to be; '' if nothing is."""
    import torch

    if not isinstance(content, dict):
        return f'it holds a {type(content).__name__} where a dictionary should be'
    for key in _DICTS:
        if not isinstance(content.get(key) or {}, dict):
            return f'its {key} is a {type(content[key]).__name__} and no dictionary'
    hub = content.get('message_hub') or {}
    for key in ('log_scalars', 'runtime_info', 'resumed_keys'):
        if not isinstance(hub.get(key, {}), dict):
            return f'its message_hub.{key} is a {type(hub[key]).__name__} and no dictionary'
    for key, value in (content.get('state_dict') or {}).items():
        if not isinstance(key, str) or not (isinstance(value, torch.Tensor)
                                            or key.endswith('_extra_state')):
            return f'its state_dict[{key!r}] is a {type(value).__name__} and no tensor'
    meta = content.get('meta') or {}
    for key, kind in (('iter', int), ('epoch', int), ('config', str), ('dataset_meta', dict)):
        if not isinstance(meta.get(key, kind()), (kind, type(None))):
            return f'its meta.{key} is a {type(meta[key]).__name__}'
    return _odd_classes(meta.get('dataset_meta') or {}) or _odd_networks(meta.get('networks'))


def _odd_classes(said: dict) -> str:
    classes, palette = said.get('classes') or (), said.get('palette')
    if not isinstance(classes, (list, tuple)) or not all(isinstance(c, str) for c in classes):
        return 'its meta.dataset_meta.classes are no list of names'
    try:
        good = palette is None or all(len(colour) == 3 and all(0 <= int(value) < 256
                                                               for value in colour)
                                      for colour in palette)
    except (TypeError, ValueError, OverflowError):
        good = False
    return '' if good else 'its meta.dataset_meta.palette is no list of RGB colours'


def _odd_networks(said) -> str:
    roles = said.get('roles') if isinstance(said, dict) else None
    good = said is None or (isinstance(roles, dict) and isinstance(said.get('predicts'), str)
                            and all(isinstance(role, dict) and set(role) <= {'follows', 'plain'}
                                    for role in roles.values()))
    return '' if good else 'its meta.networks does not say roles and the network that predicts'


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
    if found is None and 'WeightsUnpickler error: ' in reason:
        why = reason.partition('WeightsUnpickler error: ')[2].strip().splitlines()[0]
        return (f'checkpoint {filename} is refused: it cannot be read ({why}): it is damaged, or '
                'no checkpoint')
    what = f"it names '{found.group(1)}'" if found else _last_line(reason)
    return (f'checkpoint {filename} is refused: {what}, which is not among the types that a '
            'checkpoint of mmengine contains. If you trust where the file comes from, either save '
            "its 'state_dict' alone in an environment that can read it, or (torch>=2.6) allow the "
            'named type with torch.serialization.add_safe_globals([...]) before loading.')
