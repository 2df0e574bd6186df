"""What a run begins from: trained segmentors, as a checkpoint of a method's own networks."""
from __future__ import annotations

from pathlib import Path

import torch

from ..storage import safe_loading
from ..storage.atomic import atomic_file
from ..storage.keys import networks_in, to_plain


def write_start(row, paths: list[str], target: Path) -> Path:
    """Write a checkpoint in which each whole network of a method has the weights of a segmentor.

    Networks that are trained side by side must differ: each begins from a checkpoint of its own, in
    the order of the method's roles. An average begins from what it follows.

    Args:
        row: the ladder's Row. paths: checkpoints; plain ones, or of a run of this package with a
            student. Those that a method has no use for are not read.
        target: file to write.

    Returns:
        ``target``.

    Raises:
        ValueError: more networks that are trained than checkpoints. OSError and what safe loading
            raises: a checkpoint that cannot be read.
    """
    roles = {name: role for name, role in row.method.model.roles_of(row.cfg).items() if role.plain}
    trained = [name for name, role in roles.items() if role.follows is None]
    if len(trained) > len(paths):
        raise ValueError(f'{row.title} trains {len(trained)} networks, which must begin apart: '
                         f'give --start {len(trained)} checkpoints')
    plain = dict(zip(trained, map(_plain, paths)))
    state = {f'{name}.{key}': value for name, role in roles.items()
             for key, value in plain[role.follows or name].items()}
    with atomic_file(target) as out:
        torch.save(dict(state_dict=state, meta={}), out)
    return target


def _plain(path: str) -> dict:
    checkpoint = safe_loading.load_from_local(path, map_location='cpu')
    state = checkpoint.get('state_dict', checkpoint)
    return to_plain(state, 'student') if networks_in(state) else state
