"""All pictures of a checkpoint: which can be made, and their files."""
from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch

from ..functional import nearest
from ..progress import track
from . import contrast, pictures
from .palette import class_colours
from .panels import contact_sheet, save
from .scenes import Scene, Trained, look_at, predict

KINDS = {  # what a picture shows: the sentence stands over it in a report
    'dominant': "How many classes compete at each pixel, and one pixel's probabilities",
    'entropy': 'Where the network is unsure: entropy of its probabilities, 0 to 1',
    'parts': 'How the pixels of a class are grouped into parts',
    'pairs': 'An anchor of the contrast, its positives and its negatives',
    'compare': 'What each network predicts, and where it is wrong or differs',
    'embedding': 'Which parts have features that are alike: t-SNE of queues and pixels'}
OF_PARTS = ('parts', 'pairs', 'embedding')
LONGEST = 200  # bytes of an image's name in those of pictures, which file systems end at 255


@dataclass
class Album:
    """What to draw from and how.

    Attributes:
        trained: the checkpoint. scenes: the images. out: folder of the PNGs.
        other: a second checkpoint to compare with; None: the first one's networks.
        pixel: (x, y) in each picture, or None. palette: 'safe' or 'dataset'.
    """
    trained: Trained
    scenes: list[Scene]
    out: Path
    other: Trained | None = None
    pixel: tuple | None = None
    palette: str = 'safe'

    def __post_init__(self):
        if self.pixel is not None:
            for scene in self.scenes:
                height, width = scene.image.shape[:2]
                x, y = self.pixel
                if not (0 <= x < width and 0 <= y < height):
                    raise ValueError(f'pixel ({x}, {y}) lies outside of {scene.stem}, which is '
                                     f'{width} x {height} pixels as the network is shown it')
        if self.palette == 'dataset' and self.trained.palette is None:
            raise ValueError('--palette dataset: neither checkpoint nor config has a palette of '
                             f'{len(self.trained.classes)} colours')
        given = self.trained.palette if self.palette == 'dataset' else None
        self.colours = class_colours(self.trained.classes, given)

    def impossible(self, kind: str) -> str:
        """Why a kind of picture cannot be made; '' if it can."""
        memory = getattr(self.trained.model, 'part_memory', None)
        if kind in OF_PARTS and memory is None:
            model = self.trained.model
            return f'this model ({model.name_of(model.cfg)}) has no parts: it has no part_memory'
        if kind in OF_PARTS and not bool(memory.initialised):
            return ('the checkpoint holds no parts of this config (it is of a plain segmentor, of '
                    "other settings or sizes, or was written before the parts' start)")
        if kind == 'compare' and self.other is None and len(self.trained.networks) < 2:
            return 'the checkpoint holds one network: give a second one with --with'
        if kind == 'compare' and self.other is not None and \
                self.other.classes != self.trained.classes:
            return 'the two checkpoints have different classes'
        return ''

    @matplotlib.rc_context({'text.parse_math': False})  # names of classes and files are text
    def draw(self, kinds) -> dict[str, list[Path]]:
        """Write the pictures of some kinds, and a sheet of each; returns kind -> paths.

        Raises:
            ValueError: a kind is :meth:`impossible`, with the reason.
        """
        for kind in kinds:
            if self.impossible(kind):
                raise ValueError(f'no {kind} picture: {self.impossible(kind)}')
        paths: dict[str, list[Path]] = {kind: [] for kind in kinds}
        each = contrast.PIXELS // max(1, len(self.scenes))
        points = []
        for scene, name in track(zip(self.scenes, self._names()), 'images', len(self.scenes)):
            seen = look_at(self.trained, scene) if set(kinds) - {'compare'} else None
            for kind in kinds:  # one image after the other: probabilities of many are large
                if kind == 'embedding':
                    points.append(contrast.pixel_points(seen, limit=each))
                else:
                    paths[kind].append(self._save(kind, self.figure(kind, scene, seen), name))
        for kind, made in paths.items():
            if kind == 'embedding':
                made.append(self._save(kind, self._embedding(points), 'all'))
            elif made:
                made.append(contact_sheet(made, self.out / f'contact_sheet_{kind}.png'))
        return paths

    def _save(self, kind: str, figure, name: str) -> Path:
        return save(figure, self.out / f'{kind}_{name}.png', KINDS[kind],
                    f'{name}, by {self.trained.name}')

    def figure(self, kind: str, scene: Scene, seen=None):
        """The matplotlib Figure of one scene; kind is any but 'embedding'.

        Args:
            seen: the scene's Look, for all kinds but 'compare'.
        """
        names, memory = self.trained.classes, getattr(self.trained.model, 'part_memory', None)
        if kind == 'compare':
            return self._compare(scene)
        if kind == 'dominant':
            return pictures.dominant(scene.image, seen, names, pixel=self.pixel, title=scene.stem)
        if kind == 'entropy':
            return pictures.entropy(scene.image, seen, title=scene.stem)
        if kind == 'parts':
            return pictures.parts(scene.image, seen, names, memory.num_parts,
                                  colours=self.colours, title=scene.stem)
        return contrast.pairs(scene.image, seen, names, memory, pixel=self.pixel,
                              title=scene.stem)

    def _embedding(self, points: list):
        memory = self.trained.model.part_memory
        points = contrast.join([contrast.queue_points(memory), *points])
        return contrast.embedding(points, self.trained.classes, memory.num_parts, self.colours,
                                  network=self.trained.model.labeler)

    def _compare(self, scene: Scene):
        if self.other is None:
            made = {name: predict(self.trained, scene, name) for name in self.trained.networks}
        else:
            labels = _labels(self.trained, self.other)
            made = dict(zip(labels, (predict(t, scene) for t in (self.trained, self.other))))
        truth, first = scene.truth, next(iter(made.values()))
        if truth is not None and truth.shape != first.shape:
            truth = nearest(torch.from_numpy(truth)[None], first.shape)[0].numpy()
        ignore = self.trained.model.ignore_index
        return pictures.compare(scene.image, made, self.trained.classes, truth, ignore=ignore,
                                colours=self.colours, title=scene.stem)

    def _names(self) -> list[str]:
        """Each scene's stem, with a number where an earlier one has the same."""
        names: list[str] = []
        for scene in self.scenes:
            stem = name = _short(scene.stem)
            number = 2
            while name in names:
                name, number = f'{stem}_{number}', number + 1
            names.append(name)
        return names


def _short(stem: str) -> str:
    """A name that leaves room for more; of a long one the beginning, and a digest of all of it."""
    name = os.fsencode(stem)
    if len(name) <= LONGEST:
        return stem
    begin = name[:LONGEST - 9].decode('utf-8', 'ignore')
    return f'{begin}_{hashlib.sha256(name).hexdigest()[:8]}'


def _labels(first: Trained, second: Trained) -> tuple[str, str]:
    """Names of two checkpoints that differ."""
    if first.name != second.name:
        return first.name, second.name
    return f'{first.name} (first)', f'{second.name} (second)'
