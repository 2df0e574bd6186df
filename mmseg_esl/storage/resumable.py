"""Which checkpoint of a work folder to resume from."""
from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path

from . import safe_loading

POINTER = 'last_checkpoint'
TRIES = 20  # to read a checkpoint while a training replaces it
_NEEDED = ('meta', 'state_dict', 'message_hub')  # by mmengine's Runner.resume


def newest_readable(folder, work_dir, template: str, warn) -> str | None:
    """Find the newest checkpoint that can be read; an unreadable one gives way to that before it.

    Args:
        folder: where the checkpoints are.
        work_dir: where the pointer ``last_checkpoint`` is.
        template: their file name, such as ``iter_{}.pth``.
        warn: called with a text that names the unreadable files and the one that is taken.

    Returns:
        Its path, or None where the folder holds no checkpoint.

    Raises:
        Unreadable: there are checkpoints and none can be read; all are named.
        pickle.UnpicklingError: the newest whole file is not safe to load. That is no damage, so
            nothing is taken in its place.
    """
    for _ in range(TRIES):
        faults = []
        try:
            for path in in_order(checkpoints_in(folder, template), read_pointer(work_dir, folder)):
                fault = why_unreadable(path)
                if not fault:
                    if faults:
                        warn(f'taking {path}, since newer ones are damaged: ' + '; '.join(faults))
                    return str(path)
                path.stat()  # is it still there?
                faults.append(f'{path} ({fault})')
            break
        except FileNotFoundError:  # a training has replaced it meanwhile
            continue
    else:
        raise RuntimeError(f'{folder}: its checkpoints are replaced before they can be read')
    if faults:
        raise safe_loading.Unreadable(
            'no checkpoint can be read: ' + '; '.join(faults) + '. Put a whole one there, or '
            'remove them and leave --resume out to start anew')
    return None


def _named_by(template: str) -> str:
    """A regular expression; its group is the iteration."""
    before, after = re.split(r'\{[^}]*\}', template, maxsplit=1)
    return re.escape(before) + r'(\d+)' + re.escape(after)


def drop_foreign_names(info: dict, template: str, warn) -> None:
    """Leave in a checkpoint's ``runtime_info`` only the names of checkpoints, in place.

    A run removes the files that are named there. So what a stranger wrote there must be the bare
    name of a checkpoint, or of the best one.

    Args:
        info: with ``keep_ckpt_ids``, ``superseded_ckpts``, ``last_ckpt``, ``best_ckpt*``, if any.
        template: the checkpoints' file name, such as ``iter_{}.pth``.
        warn: called with a text that names what was left out.
    """
    fits = re.compile(rf'(best_[^/\\\0]+_)?{_named_by(template)}').fullmatch
    foreign = []

    def kept(values, good) -> list:
        values = values if isinstance(values, (list, tuple)) else [values]
        foreign.extend(value for value in values if not good(value))
        return [value for value in values if good(value)]

    for key in [key for key in info if isinstance(key, str)]:
        if key == 'keep_ckpt_ids':
            info[key] = kept(info[key], lambda value: type(value) is int)
        elif key == 'superseded_ckpts':
            info[key] = kept(info[key], lambda value: isinstance(value, str) and fits(value))
        elif (key == 'last_ckpt' or key.startswith('best_ckpt')) and info[key] is not None:
            # a whole path, of which the name counts
            if not kept(info[key], lambda value: isinstance(value, str) and fits(
                    os.path.basename(value))):
                del info[key]
    if foreign:
        warn(f'the checkpoint names files that are no checkpoints of this run ({template}), which '
             f'are left alone: {", ".join(map(repr, foreign[:3]))}')


def checkpoints_in(folder, template: str) -> dict:
    """Path -> iteration (or epoch) of the files of a folder that are named by the template."""
    pattern = re.compile(_named_by(template))
    matches = ((path, pattern.fullmatch(path.name)) for path in Path(folder).glob('*'))
    return {path: int(match.group(1)) for path, match in matches if match and path.is_file()}


def read_pointer(work_dir, folder) -> Path | None:
    """The file that ``last_checkpoint`` names, if it is there.

    A relative name counts from the work folder. mmengine writes absolute ones: where the work
    folder was moved or copied since, the file of that name in ``folder`` is meant.
    """
    path = Path(work_dir) / POINTER
    if not path.is_file():  # a FIFO would never end
        return None
    try:
        named = path.read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not named or '\0' in named:
        return None
    tries = [Path(folder) / os.path.basename(named), Path(work_dir) / named]
    return next((path for path in tries if path.is_file()), None)


def in_order(steps: dict, pointed: Path | None) -> list:
    """Paths in the order of trying.

    First what was written after the file that the pointer names (a save that was killed before it
    moved the pointer), then that file, then what came before it. A later iteration that was
    written earlier is what another run left in the folder, and comes last.
    """
    if pointed is None:
        return sorted(steps, key=steps.get, reverse=True)
    steps = {pointed: max(steps.values(), default=0) + 1, **steps}
    own, written = steps[pointed], pointed.stat().st_mtime_ns

    def rank(path):
        foreign = steps[path] > own and path.stat().st_mtime_ns <= written
        return (not foreign, steps[path])

    return sorted(steps, key=rank, reverse=True)


def why_unreadable(path: Path) -> str:
    """'' for a checkpoint that mmengine can resume from, else what is wrong with the file.

    torch does not compare checksums when it loads, so a flipped bit would go unnoticed: the file is
    read once as the zip archive that it is.

    Raises:
        pickle.UnpicklingError: the file is whole, and not safe to load.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            return f'checksum of {damaged} is wrong'
        content = safe_loading.load_from_local(str(path), map_location='cpu')
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # zlib.error and struct.error of a flipped bit among them
        return f'{type(error).__name__}: {error}'
    missing = [key for key in _NEEDED if not isinstance(content, dict) or key not in content]
    return f'it has no {", ".join(missing)}' if missing else ''
