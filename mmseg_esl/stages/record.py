"""Stages in their order: what is finished is not done again."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

from ..storage.atomic import atomic_file
from ..storage.lock import FolderLock

FILE = 'stages.json'


def run_stages(work_dir, stages: dict, identity: dict, say: Callable = print) -> dict:
    """Run the stages that are not finished, and note each in ``stages.json`` when it is.

    Args:
        work_dir: each stage has a folder of its name in it.
        stages: name -> function that is given the folder and returns the files it has made. One
            that was killed is called again and goes on from what it finds.
        identity: what all stages are made from, as JSON holds it.

    Returns:
        name -> paths of the files, for every stage.

    Raises:
        ValueError: the folder was begun with another identity (says in what), files of a
            finished stage are gone, or ``stages.json`` is not as this function leaves it.
        Locked: another process runs them in the same folder.
    """
    work_dir = Path(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(work_dir)
    lock.take()
    try:
        return _run(work_dir, stages, identity, say)
    finally:
        lock.give_back()


def _run(work_dir: Path, stages: dict, identity: dict, say: Callable) -> dict:
    path = work_dir / FILE
    state = dict(made_from=identity, finished={})
    if path.is_file():
        state = _read(path)
        _check_same(path, state['made_from'], json.loads(json.dumps(identity)))
    _write(path, state)
    for name, stage in stages.items():
        if name in state['finished']:
            _check_there(work_dir, name, state['finished'][name])
            say(f'{name} is finished')
            continue
        say(f'{name} begins')
        made = stage(work_dir / name)
        state['finished'][name] = [Path(file).relative_to(work_dir).as_posix() for file in made]
        _write(path, state)
    return {name: [work_dir / file for file in files]
            for name, files in state['finished'].items()}


def _read(path: Path) -> dict:
    try:
        state = json.loads(path.read_text(encoding='utf-8'))
        odd = not (isinstance(state, dict) and isinstance(state.get('made_from'), dict)
                   and isinstance(state.get('finished'), dict)
                   and all(isinstance(file, str) for files in state['finished'].values()
                           for file in files))
    except (ValueError, TypeError, RecursionError):
        odd = True
    if odd:
        raise ValueError(f'{path} is not as st_plus_plus.py leaves it: remove it, and all stages '
                         'begin anew, or give another --work-dir')
    return state


def _check_same(path, old: dict, new: dict) -> None:
    changed = [f'{key}: {old.get(key)} -> {new.get(key)}' for key in {**old, **new}
               if old.get(key) != new.get(key)]
    if changed:
        raise ValueError(f'{path} was begun otherwise ({"; ".join(changed)}): set it back, or '
                         'give another --work-dir')


def _check_there(work_dir: Path, name: str, files: list) -> None:
    gone = [file for file in files if not (work_dir / file).is_file()]
    if gone:
        raise ValueError(f'{name} is finished and its {", ".join(gone)} is gone from {work_dir}: '
                         'put it back, or begin anew in another --work-dir')


def _write(path: Path, state: dict) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(state, indent=1) + '\n').encode())
