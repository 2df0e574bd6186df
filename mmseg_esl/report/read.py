"""What lies in a work folder beside the scalars: environment, audits, pictures."""
from __future__ import annotations

import base64
import re
from pathlib import Path

from ..results.run import Run, read_json

NAMES = ('sys.platform', 'Python', 'PyTorch', 'TorchVision', 'OpenCV', 'MMEngine', 'CUDA available',
         'GPU', 'CUDA_HOME', 'NVCC', 'seed', 'Distributed launcher')
LINE = re.compile(r'^ {4}([\w. ,-]+): (.*)$')  # as mmengine's Runner logs it
PNG = b'\x89PNG\r\n\x1a\n'
AUDIT_SCHEMA = 1
AUDIT_TYPES = dict(classes=list, per_class=dict, dominant=dict, parts=(dict, type(None)))


def environment(run: Run) -> dict[str, str]:
    """``{name: value}`` of the last start: ``run.json``'s and what mmengine wrote into its log."""
    out = {}
    start = run.starts[-1]
    info = read_json(start / 'run.json')
    if info.get('mmseg_esl'):
        out['mmseg_esl'] = str(info['mmseg_esl'])
    out['commit'] = run.commit or 'not recorded'
    versions = info.get('versions') or {}
    out.update({name: str(value) for name, value in versions.items()})
    out.update(_logged(start))
    out['seed'] = 'not recorded' if run.seed is None else str(run.seed)
    out['processes'] = str(run.world_size or 'not recorded')
    return out


def _logged(start: Path) -> dict[str, str]:
    """The section between 'System environment:' and 'Config:' of the text log; {} without one."""
    path, out = start / f'{start.name}.log', {}
    if not path.is_file():
        return out
    inside = False
    with open(path, encoding='utf-8', errors='replace') as file:
        for line in file:
            inside = inside or line.startswith('System environment:')
            if inside and line.rstrip().endswith('Config:'):
                break
            found = LINE.match(line.rstrip('\n')) if inside else None
            if found and found[1].startswith(NAMES) and found[1] != 'PyTorch compiling details':
                out[found[1]] = found[2]
    return out


def commands(run: Run) -> list[str]:
    """The command of each start that ``run.json`` kept; that of a file is kept without python."""
    found = [read_json(start / 'run.json').get('command') for start in run.starts]
    return [command if command.startswith(('mmseg-esl ', 'python -m ')) else f'python {command}'
            for command in found if isinstance(command, str) and command]


def audits(folder: Path, notes: list) -> list[dict]:
    """``audit/iter_*.json`` by iteration; what cannot be read is noted."""
    found = {}
    for path in sorted(folder.glob('audit/iter_*.json')):
        try:
            audit = read_json(path)
            if audit['schema'] != AUDIT_SCHEMA:
                raise ValueError(f'schema {audit["schema"]}, where {AUDIT_SCHEMA} is known')
            for key, wanted in AUDIT_TYPES.items():
                if not isinstance(audit.get(key), wanted):
                    raise TypeError(f'{key} is a {type(audit.get(key)).__name__}')
            found[int(audit['iter'])] = audit
        except (ValueError, TypeError, KeyError, OSError, OverflowError) as error:
            notes.append(f'{path.relative_to(folder)} is left out: '
                         f'{type(error).__name__}: {error}')
    return [found[step] for step in sorted(found)]


def pictures(folder: Path, notes: list) -> list[tuple[str, str]]:
    """``(caption, data URI)`` of each PNG below ``pictures/``, contact sheets first."""
    out = []
    for path in sorted((folder / 'pictures').rglob('*.png'), key=_order):
        data = path.read_bytes() if path.is_file() else b''
        name = path.relative_to(folder / 'pictures').as_posix()
        if data.startswith(PNG):
            caption = name[:-len('.png')].replace('_', ' ')
            out.append((caption, 'data:image/png;base64,' + base64.b64encode(data).decode()))
        else:
            notes.append(f'pictures/{name} is left out: not a PNG file')
    return out


def _order(path: Path) -> tuple:
    """Numbers in names by value: image_2 before image_10."""
    parts = [(int(part), '') if part.isdigit() else (-1, part)
             for part in re.split(r'(\d+)', str(path))]
    return not path.name.startswith('contact_sheet'), parts
