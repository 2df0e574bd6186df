"""What lies in a work folder beside the scalars: environment, audits, pictures."""
from __future__ import annotations

import base64
import glob
import io
import math
import re
import warnings
from pathlib import Path

from PIL import Image, features

from ..results.run import Run, read_json

NAMES = ('sys.platform', 'Python', 'PyTorch', 'TorchVision', 'OpenCV', 'MMEngine', 'CUDA available',
         'GPU', 'CUDA_HOME', 'NVCC', 'seed', 'Distributed launcher')
LINE = re.compile(r'^ {4}([\w. ,-]+): (.*)$')  # as mmengine's Runner logs it
ALL_PICTURES = 2_500_000  # bytes in the page, which a mail still takes
# WebP's quality and the share of the sides, tried in turn until a picture fits: at the first one
# letters and edges of a map are as sharp as in the file, at the last they are still legible
STEPS = ((85, 1.0), (70, 1.0), (50, 1.0), (50, 0.7))
WEBP_SIDE = 16383  # pixels
BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
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


def pictures(folder: Path, notes: list, room=ALL_PICTURES) -> dict[str, list[tuple[str, str]]]:
    """``{heading: [(caption, data URI)]}`` of each picture below ``pictures/``, once.

    Headings and captions are what the files say of themselves (tools/visualize.py writes both),
    else '' and their names. A contact sheet is left out where the pictures in it are there.

    Args:
        notes: is added to.
        room: bytes that all of them may take, if they stay legible.
    """
    out: dict[str, list] = {}
    found, root = {}, folder / 'pictures'  # content: the first file of it
    for path in sorted(root.rglob('*.png'), key=_order):
        data = path.read_bytes() if path.is_file() else b''
        if not _is_sheet_of_others(path):
            found.setdefault(data or path, (path, data))
    for path, data in found.values():
        name = path.relative_to(root).as_posix()
        try:
            said, shown = _small(data, room // len(found))
        except (OSError, ValueError, SyntaxError, *BOMBS):
            notes.append(f'pictures/{name} is left out: not a PNG file, a damaged or a huge one')
            continue
        caption = said.get('Description') or name[:-len('.png')].replace('_', ' ')
        out.setdefault(said.get('Title', ''), []).append((caption, shown))
    return out


def _is_sheet_of_others(path: Path) -> bool:
    _, sheet, kind = path.stem.partition('contact_sheet_')
    return bool(sheet) and any(path.parent.glob(f'{glob.escape(kind)}_*.png'))


def _small(data: bytes, room: int) -> tuple[dict, str]:
    """What a PNG says of itself, and a data URI of it: the file where it takes fewer bytes than
    WebP, else WebP, smaller until it fits.

    Raises:
        OSError, ValueError, SyntaxError, or of BOMBS: Pillow's, where it is no PNG file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('error', Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=['PNG']) as image:
            image.load()
            said = {key: str(text) for key, text in image.text.items()}
            shown = _uri('png', data)
            for quality, share in STEPS:
                if (quality, share) != STEPS[0] and len(shown) <= room:
                    break
                shown = min(shown, _uri('webp', _webp(image, quality, share)), key=_length)
    return said, shown


def _uri(kind: str, data: bytes) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}' if data else ''


def _length(uri: str) -> float:
    return len(uri) or math.inf


def _webp(image: Image.Image, quality: int, share: float) -> bytes:
    """Empty where Pillow was built without WebP, and of pictures that are too large for it."""
    if not features.check('webp') or max(image.size) > WEBP_SIDE:
        return b''
    out = io.BytesIO()
    clear = 'transparency' in image.info or image.mode.endswith('A')
    image = image.convert('RGBA' if clear else 'RGB')
    if share < 1:
        image = image.resize([max(1, round(share * side)) for side in image.size], Image.LANCZOS)
    image.save(out, 'WebP', quality=quality)
    return out.getvalue()


def _order(path: Path) -> tuple:
    """Numbers in names by value: image_2 before image_10."""
    parts = [(int(part), '') if part.isdigit() else (-1, part)
             for part in re.split(r'(\d+)', str(path))]
    return not path.name.startswith('contact_sheet'), parts
