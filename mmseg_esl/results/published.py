"""Figures that others have published for a run's cell, with what they were measured by."""
from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from ..splits.published import PROTOCOLS
from .run import Run
from .training import backbone, crop, evaluation, kind, segmentor

BACKBONES = {'xception65': 'Xception-65', 'vit_small_patch14_dinov2': 'DINOv2-S',
             'vit_base_patch14_dinov2': 'DINOv2-B'}
DECODERS = {'DepthwiseSeparableASPPHead': 'DeepLabV3+', 'MapDPTHead': 'DPT'}
UNSTATED = 'unstated'
# Best first: of a training's own log, a release's README, a paper's table, a tracker, from memory.
EVIDENCE = ('log', 'readme', 'paper', 'issue', 'unverified')


class Published(NamedTuple):
    """A row of docs/results/published.csv; all fields are text, '' or 'unstated' if not known.

    ``lists`` is a protocol's name where they are published ones, ``epoch`` 'last' or 'best' (on
    the images that it is reported on), ``network`` the one that was scored, ``miou`` in per cent.
    """
    method: str
    backbone: str
    dataset: str
    lists: str
    labelled: str
    decoder: str
    output_stride: str
    crop: str
    evaluation: str
    network: str
    epoch: str
    miou: str
    evidence: str
    source: str
    note: str

    def __str__(self) -> str:
        """The figure with all that tells whether it compares."""
        known = [self.crop and f'crop {self.crop}',
                 self.output_stride and f'stride {self.output_stride}',
                 f'evaluation {self.evaluation}' if self.evaluation == UNSTATED
                 else self.evaluation,
                 f'epoch {self.epoch}' if self.epoch == UNSTATED else f'{self.epoch} epoch',
                 '' if self.network == UNSTATED else self.network, f'lists {self.lists}', self.note]
        return (f'{self.miou} ({", ".join(filter(None, known))}; {self.source}) '
                f'[{self.evidence}]')


def read_published(path) -> list[Published]:
    """The rows of such a file.

    Raises:
        ValueError: the file is missing or has other columns.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file. --published names the CSV of others' figures, "
                         'which is docs/results/published.csv in the repository')
    with open(path, newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != Published._fields:
            raise ValueError(f'{path}: the columns must be {",".join(Published._fields)}, and are '
                             f'{",".join(reader.fieldnames or ())}')
        return [Published(**row) for row in reader]


def published(rows: list[Published], run: Run) -> list[Published]:
    """Of the run's method (with its constants), network, data and count; the nearest one first.

    Lists must be the run's, or not stated. Crop and evaluation may be others: see :func:`alike`.
    """
    protocol = run.protocol.get('protocol', '').split('/')[0]
    name = run.method.get('published_as')
    if not name or protocol not in PROTOCOLS or run.with_pseudo_labels:
        return []
    if any(row.method == run.method['name'] for row in rows):  # a setting with rows of its own
        name = run.method['name']
    net, decoder = backbone(run.cfg), segmentor(run.cfg).get('decode_head')
    cell = (name, BACKBONES.get(net, net), str(run.protocol['labeled']['count']),
            DECODERS.get(kind(decoder)) if isinstance(decoder, dict) else None)
    found = [row for row in rows
             if (row.method, row.backbone, row.labelled, row.decoder) == cell
             and (row.lists == protocol or row.lists == UNSTATED
                  and protocol.startswith(row.dataset.replace('_', '-')))]
    return sorted(found, key=lambda row: (
        not alike(row, run), row.lists == UNSTATED, UNSTATED in (row.evaluation, row.epoch),
        EVIDENCE.index(row.evidence), row.epoch != 'last'))


def alike(row: Published, run: Run) -> bool:
    """Whether crop and evaluation, as far as they are stated, are the run's."""
    return (row.crop in ('', str(crop(run.cfg)))
            and (row.evaluation == UNSTATED or evaluation(run.cfg).startswith(row.evaluation)))


def equal(rows: list[Published], method: str, net: str, dataset: str, labelled: int,
          miou: str) -> list[Published]:
    """Where a figure that another paper quotes comes from: rows with that very figure."""
    cell = (method, net, dataset, str(labelled), miou)
    return [row for row in rows
            if (row.method, row.backbone, row.dataset, row.labelled, row.miou) == cell]
