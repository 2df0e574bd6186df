"""What a run begins from: trained segmentors, as a checkpoint of a method's own networks."""
from __future__ import annotations

from pathlib import Path

import torch

from ..storage import safe_loading
from ..storage.atomic import atomic_file
from ..storage.keys import networks_in, to_plain


def write_start(row, paths: list[str], target: Path) -> Path:
    """Write a checkpoint in which each whole network of a method has the weights of a segmentor.

    The second student of two (CPS, GCT: networks that must differ) begins from the second
    checkpoint; all others, teachers too, from the first.

    Args:
        row: the ladder's Row. paths: one checkpoint or two; plain ones, or of a run of this package
            with a student.
        target: file to write.

    Returns:
        ``target``.

    Raises:
        ValueError: two students, and one checkpoint. OSError and what safe loading raises: a
            checkpoint that cannot be read.
    """
    names = [name for name, role in row.method.model.roles_of(row.cfg).items() if role.plain]
    if 'student2' in names and len(paths) < 2:
        raise ValueError(f'{row.title} has two students, which must begin apart: give --start two '
                         'checkpoints')
    plain = [_plain(path) for path in paths]
    state = {f'{name}.{key}': value for name in names
             for key, value in plain[name == 'student2'].items()}
    with atomic_file(target) as out:
        torch.save(dict(state_dict=state, meta={}), out)
    return target


def _plain(path: str) -> dict:
    checkpoint = safe_loading.load_from_local(path, map_location='cpu')
    state = checkpoint.get('state_dict', checkpoint)
    return to_plain(state, 'student') if networks_in(state) else state
