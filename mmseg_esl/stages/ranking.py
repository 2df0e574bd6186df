"""Which unlabelled images are reliable: those on which the snapshots of a training agree."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..functional import stability


def score(images, maskers: list, num_classes: int, path) -> dict[str, float]:
    """The stability of every image, which is also written to a CSV, line by line.

    Args:
        images: see ``Images``.
        maskers: one a snapshot, the last one last: ``predict.Masker``.
        path: the CSV. Whole lines that are there already are not computed again.
    """
    path, done = Path(path), {}
    if path.is_file():
        done = _whole_lines(path, set(images.names))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(map(_line, done, done.values())), encoding='utf-8')
    with open(path, 'a', encoding='utf-8') as file:
        for name in images.names:
            if name in done:
                continue
            predictions = np.stack([masker([masker.prepare(images.path(name))])[0]
                                    for masker in maskers]).astype(np.int64)
            done[name] = float(stability(torch.from_numpy(predictions), num_classes))
            file.write(_line(name, done[name]))
            file.flush()
    return {name: done[name] for name in images.names}


def _line(name: str, value: float) -> str:
    return f'{value!r},{name}\n'


def _whole_lines(path: Path, names: set) -> dict:
    text = path.read_text(encoding='utf-8')
    lines = text[:text.rfind('\n') + 1].splitlines()  # a killed writer leaves half a line
    pairs = (line.split(',', 1) for line in lines)
    return {name: float(value) for value, name in pairs if name in names}


def split(scores: dict[str, float]) -> tuple[list, list]:
    """Names of the floor(U / 2) most stable images, and of the others, each by falling score.

    Equal scores are in the order of the names, so that the list's order does not matter (ours).
    """
    ranked = sorted(scores, key=lambda name: (-scores[name], name))
    half = len(ranked) // 2
    return ranked[:half], ranked[half:]
