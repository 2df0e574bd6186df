"""Masks that a network predicts for a list of images, and the record that says what they are."""
from __future__ import annotations

import hashlib
import os.path as osp
from pathlib import Path
from typing import Callable

from ..datasets.file_check import content_problem
from ..datasets.pseudo import mask_folder, read_record, write_record
from ..predict import Item, Masker, Painter, predict
from ..predict.masks import default_tta, pipeline_of

FILE = 'pseudo_labels.json'
RESERVED = 255  # ignored in training


def write_pseudo_labels(folder, images, segmentor, checkpoint, scales, say: Callable = print):
    """Write ``pseudo_labels/*.png``, and ``pseudo_labels.json`` beside it.

    Masks are class indices of the image's size, by both flips of every scale: averaged softmax,
    then argmax, no threshold. 255 is left free and never written. The record is 'complete' only
    when all are there. Masks of the same checkpoint that are whole are kept.

    Args:
        folder: gets both. images: see ``Images``.
        segmentor: from ``predict.load_segmentor``. checkpoint: what it was filled from, a file in
            the work folder's folder of a stage.
        scales: of the size that the test pipeline gives an image.

    Returns:
        The path of the record.

    Raises:
        ValueError: images that cannot be read, two that share a name but for the suffix, or more
            classes than a byte holds beside 255.
    """
    classes = segmentor.dataset_meta['classes']
    if len(classes) > RESERVED:
        raise ValueError(f'{len(classes)} classes do not fit into masks of 8 bits beside 255')
    path, record = Path(folder) / FILE, _record(images, segmentor, checkpoint, scales)
    masks = mask_folder(path)
    items = [Item(images.path(name), dict(index=masks / mask))
             for name, mask in record['masks'].items()]
    _remove_unusable(path, record, items)
    write_record(path, record)
    segmentor.cfg.tta_pipeline = default_tta(pipeline_of(segmentor.cfg), scales)
    found = predict(items, Masker(segmentor, tta=True), Painter(**segmentor.dataset_meta),
                    skip_existing=True, warn=say)
    if found.broken:
        raise ValueError(f'{len(found.broken)} unlabelled images cannot be read: repair them or '
                         'take them from the list')
    say(f'{found.written} masks written, {found.existing} were there')
    write_record(path, {**record, 'complete': True})
    return path


def _record(images, segmentor, checkpoint, scales) -> dict:
    masks: dict = {}
    for name in images.names:
        other = masks.setdefault(osp.splitext(name)[0] + '.png', name)
        if other != name:
            raise ValueError(f"'{other}' and '{name}' would share a mask: rename one")
    source = '/'.join(Path(checkpoint).parts[-2:])
    return dict(
        what=f'pseudo labels of {len(images.names)} images by {source}', complete=False,
        note='Predictions of a network, not annotations.',
        checkpoint_sha256=hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
        scales=list(scales), flip=True, classes=list(segmentor.dataset_meta['classes']),
        image_folder=images.folder, masks={name: mask for mask, name in masks.items()})


def _remove_unusable(path: Path, record: dict, items: list) -> None:
    """Masks that are not whole, and all if others than these were begun."""
    same = path.is_file() and {**read_record(path), 'complete': False} == record
    for item in items:
        mask = item.outputs['index']
        if mask.is_file() and not (same and content_problem(mask.read_bytes()) is None):
            mask.unlink()
