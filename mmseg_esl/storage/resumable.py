"""Which checkpoint of a work folder to resume from."""
from __future__ import annotations

import os
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
        RuntimeError: there are checkpoints and none can be read; all are named.
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
        raise RuntimeError('no checkpoint can be read: ' + '; '.join(faults) + '. Put a whole one '
                           'there, or remove them and leave --resume out to start anew')
    return None


def checkpoints_in(folder, template: str) -> dict:
    """Path -> iteration (or epoch) of the files of a folder that are named by the template."""
    before, after = re.split(r'\{[^}]*\}', template, maxsplit=1)
    pattern = re.compile(re.escape(before) + r'(\d+)' + re.escape(after))
    matches = ((path, pattern.fullmatch(path.name)) for path in Path(folder).glob('*'))
    return {path: int(match.group(1)) for path, match in matches if match and path.is_file()}


def read_pointer(work_dir, folder) -> Path | None:
    """The file that ``last_checkpoint`` names, if it is there.

    A relative name counts from the work folder. mmengine writes absolute ones: where the work
    folder was moved or copied since, the file of that name in ``folder`` is meant.
    """
    try:
        named = (Path(work_dir) / POINTER).read_text(encoding='utf-8').strip()
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
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, NotImplementedError,
            zipfile.BadZipFile) as error:
        return f'{type(error).__name__}: {error}'
    missing = [key for key in _NEEDED if not isinstance(content, dict) or key not in content]
    return f'it has no {", ".join(missing)}' if missing else ''
