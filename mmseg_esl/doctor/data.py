"""Checks of images and label maps."""

from __future__ import annotations

import os.path as osp
from collections import defaultdict

import numpy as np

from ..datasets.checks import IGNORE
from .findings import Finding, listed
from .lists import LARGE, SETS


def check_files(images: dict, scans: dict) -> list[Finding]:
    """Files that cannot be read, one finding for each problem.

    Args:
        images: set -> paths. scans: path -> Scan.
    """
    found = defaultdict(list)
    for which in SETS:
        for path in images[which]:
            if scans[path].problem:
                found[which, scans[path].problem].append(path)
    out = [Finding('error', 'files', f'{len(paths)} {which} images: {problem}: {listed(paths)}',
                   'repair them or take them from the list; SemiDataset(on_error="skip") leaves '
                   'them out while training', tuple(paths))
           for (which, problem), paths in found.items()]
    deep = [path for paths in images.values() for path in paths if scans[path].deep]
    if deep:
        out.append(Finding(
            'warning', 'files', f'{len(deep)} images of 16 bits a channel, of which OpenCV keeps '
            f'the high byte: {listed(deep)}', 'convert them to 8 bits over the range that they '
            'use', tuple(deep)))
    large = [path for paths in images.values() for path in paths if scans[path].pixels > LARGE]
    if large:
        most = max(scans[path].pixels for path in large)
        out.append(Finding(
            'warning', 'files', f'{len(large)} images of more than {LARGE // 10 ** 6} megapixels, '
            f'the largest of {most / 1e6:.0f}: each worker holds {3 * most / 2 ** 30:.1f} GB of '
            f'it at once: {listed(large)}', 'cut them into tiles', tuple(large)))
    total = {which: len(images[which]) for which in SETS}
    if not out:
        out.append(Finding('ok', 'files', f'all images can be read: {total}'))
    return out


def check_manifest(manifest, files, progress=iter) -> list[Finding]:
    """Compare every image and mask with its checksum.

    Args:
        manifest: a Manifest, or None. files: paths. progress: wraps the files, for a bar.
    """
    if manifest is None:
        return [Finding('note', 'manifest', 'no checksums: a damaged file that still decodes '
                        'cannot be found', 'python tools/doctor.py CONFIG --write-manifest FILE, '
                        'then SemiDataset(manifest=FILE)')]
    wrong = defaultdict(list)
    for path in progress(files):
        try:
            problem = manifest.file_problem(path)
        except OSError as error:
            problem = f'it cannot be read ({type(error).__name__})'
        if problem:
            wrong[problem.split(' (SHA')[0]].append(path)
    if not wrong:
        return [Finding('ok', 'manifest', f'{len(files)} files are as in {manifest.path}')]
    return [Finding('error', 'manifest', f'{len(paths)} files: {problem}: {listed(paths)}',
                    'restore them, or write the manifest again if the change was meant',
                    tuple(paths))
            for problem, paths in wrong.items()]


class LabelCounts:
    """Pixels and images of each of the 256 values, over all label maps.

    Attributes:
        pixels, images: (256,) int64. problems: what was wrong, one text a file. maps: how many.
    """

    def __init__(self, maps) -> None:
        self.pixels, self.images = np.zeros(256, np.int64), np.zeros(256, np.int64)
        self.problems: list = []
        self.maps = 0
        for _, label, problem in maps:
            if problem:
                self.problems.append(problem)
            if label is not None and label.ndim == 2:
                count = np.bincount(label.ravel().astype(np.int64) & 255, minlength=256)
                self.pixels += count
                self.images += count > 0
                self.maps += 1


def check_labels(counts: LabelCounts, classes, reduce_zero_label: bool,
                 num_parts: int = 1) -> list[Finding]:
    """Values, ignored pixels, reduce_zero_label, and how often each class occurs.

    Args:
        counts: of the label maps as training sees them.
        classes: names, in order.
        reduce_zero_label: what the data set does.
        num_parts: K; a class with fewer pixels cannot be clustered.
    """
    if not counts.maps:
        return [Finding('error', 'labels', 'no label map could be read: '
                        + listed(counts.problems, 1), 'correct seg_map_path and seg_map_suffix')]
    out = [Finding('error', 'labels', f'{len(counts.problems)} masks: {counts.problems[0]}',
                   'as the message says', tuple(counts.problems))] if counts.problems else []
    number, pixels = len(classes), counts.pixels
    out += _zero_label(pixels, number, reduce_zero_label)
    ignored = pixels[IGNORE] / pixels.sum()
    if ignored > 0.5:
        out.append(Finding('warning', 'ignored pixels', f'{ignored:.1%} of the labelled pixels are '
                           f'{IGNORE} and train nothing',
                           'check reduce_zero_label and what the masks use for "no label"'))
    return out + _classes(counts, classes, num_parts)


def _zero_label(pixels, number: int, reduced: bool) -> list[Finding]:
    outside = [int(v) for v in np.flatnonzero(pixels) if v >= number and v != IGNORE]
    if not reduced and pixels[0] == 0 and pixels[number] > 0:
        return [Finding('error', 'reduce_zero_label', f'the values go from 1 to {number} and 0 '
                        'never occurs: the masks count from 1',
                        'set reduce_zero_label=True in the data set (labelled and validation)')]
    if reduced and number > 1 and pixels[number - 1] == 0 and pixels[IGNORE] > 0 \
            and (pixels[:number - 1] > 0).all():
        return [Finding('error', 'reduce_zero_label', 'with reduce_zero_label=True the last class '
                        'never occurs and every other does: the masks seem to count from 0, so '
                        'that class 0 is being ignored', 'set reduce_zero_label=False')]
    if outside:
        share = pixels[outside].sum() / pixels.sum()
        return [Finding('error', 'label values', f'values {outside[:8]} occur ({share:.2%} of the '
                        f'pixels), but the classes are 0 to {number - 1} and {IGNORE} is ignored',
                        f'correct the classes, or map such pixels to {IGNORE}')]
    if not reduced and pixels[0] == 0:
        return [Finding('warning', 'reduce_zero_label', 'the value 0 never occurs',
                        'if the masks count from 1, set reduce_zero_label=True')]
    return [Finding('ok', 'label values', f'all are 0 to {number - 1}, or {IGNORE}')]


def _classes(counts: LabelCounts, classes, num_parts: int) -> list[Finding]:
    number = len(classes)
    pixels, images = counts.pixels[:number], counts.images[:number]
    total = max(int(pixels.sum()), 1)
    table = ', '.join(f'{name} {p / total:.2%} in {i}' for name, p, i in
                      zip(classes, pixels, images))
    out = [Finding('note', 'classes', f'share of the labelled pixels, and images of '
                   f'{counts.maps}: {table}')]
    absent = [name for name, p in zip(classes, pixels) if p == 0]
    if absent:
        out.append(Finding('warning', 'absent classes',
                           f'no labelled pixel of {listed(absent, 20)}',
                           'label an image of each, or remove the class: it cannot be learned',
                           tuple(absent)))
    few = [name for name, p in zip(classes, pixels) if 0 < p < num_parts]
    if few:
        out.append(Finding('error', 'rare classes', f'fewer pixels than the {num_parts} parts to '
                           f'find: {listed(few, 20)}', 'label more of them, or lower '
                           'model.part_memory.num_parts', tuple(few)))
    return out


def check_ignore_index(model: dict) -> list[Finding]:
    """Heads, losses and the preprocessor have to ignore what the data set pads with."""
    wrong = [f'{place}={value}' for place, value in _walk(model, 'model')
             if osp.splitext(place)[1] in ('.ignore_index', '.seg_pad_val') and value != IGNORE]
    if not wrong:
        return [Finding('ok', 'ignore index', f'{IGNORE} everywhere')]
    return [Finding('error', 'ignore index', f'{", ".join(wrong)}, but label maps are padded with '
                    f'{IGNORE}, which would then train as a class', f'set it to {IGNORE}')]


def _walk(value, place: str):
    """(dotted place, value) of everything inside dicts and lists."""
    items = (value.items() if isinstance(value, dict) else
             enumerate(value) if isinstance(value, (list, tuple)) else ())
    for key, inside in items:
        yield f'{place}.{key}', inside
        yield from _walk(inside, f'{place}.{key}')
