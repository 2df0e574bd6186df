"""Checks of images and label maps."""

from __future__ import annotations

import os.path as osp
from collections import defaultdict

import numpy as np

from ..commands import command
from ..datasets.checks import IGNORE
from ..datasets.files import survey_images
from ..datasets.wrapped import leaves
from ..engine.classes import REMEDY, class_mismatch
from ..models.segmentors import OF_OTHER_CLASSES
from ..storage.config import kind
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
        said = ', '.join(f'{number} {which}' for which, number in total.items())
        out.append(Finding('ok', 'files', f'all images can be read: {said}'))
    return out


def check_shards(unlabeled) -> list[Finding]:
    """What is not looked at: images of tar shards. ``unlabeled``: the data set, or None."""
    shards = [leaf for leaf in (leaves(unlabeled) if unlabeled is not None else ())
              if getattr(leaf, 'unlisted', False)]
    if not shards:
        return []
    return [Finding('note', 'files', f'{sum(map(len, shards))} unlabelled images in tar shards are '
                    'not looked at here, nor whether they are labelled as well: training checks '
                    'each when it first reads it')]


def check_class_number(model: dict, lists) -> list[Finding]:
    """Heads that are trained have the classes of the labelled set and of the validation set."""
    heads = _trained_heads(model)
    if not any(heads.values()):
        return []
    found = [class_mismatch(dataset, heads, which) for dataset, which in (
        (lists.semi, 'labelled'), (lists.val, 'validation')) if dataset is not None]
    return [Finding('error', 'classes', odd, REMEDY) for odd in found if odd] or [
        Finding('ok', 'classes', f'{max(filter(None, heads.values()))} in the heads and in the '
                'data')]


def _trained_heads(model: dict) -> dict:
    """name -> num_classes, or None: of the decode head, and of auxiliary ones where they train."""
    net, found = model.get('segmentor') or model, {}
    auxiliary = net is model or (model.get('semi_train_cfg') or {}).get('auxiliary_loss')
    for name in ('decode_head', *(('auxiliary_head', ) if auxiliary else ())):
        heads = net.get(name) or []
        several = isinstance(heads, (list, tuple))
        found.update({f'{name}.{i}' if several else name: head.get('num_classes')
                      for i, head in enumerate(heads if several else [heads])
                      if head and kind(head) not in OF_OTHER_CLASSES})
    return found


def check_left_out(lists) -> list[Finding]:
    """What lies in the folders of unlabelled images and is not taken, or taken by mistake."""
    out = []
    for leaf in leaves(lists.semi.unlabeled) if lists.semi.unlabeled is not None else ():
        folder = (getattr(leaf, 'data_prefix', None) or {}).get('img_path')
        if folder and not getattr(leaf, 'ann_file', None):
            _, left = survey_images(folder, leaf.img_suffix, leaf.backend_args)
            out += [Finding('warning', 'files', f'{folder}: {sentence}', 'as it says, or name the '
                            'images that are meant in a list (ann_file)', tuple(names))
                    for sentence, names in left.told()]
    return out


def check_lossy_masks(masks: dict) -> list[Finding]:
    """Masks that are JPEG, by their content; ``masks``: set -> paths."""
    found = {which: [path for path in paths if _is_jpeg(path)] for which, paths in masks.items()}
    return [Finding('error', 'labels', f'{len(paths)} {which} masks are JPEG, which changes '
                    f'values: classes get mixed up at their borders, or lost: {listed(paths)}',
                    'make them anew as PNG; to convert them keeps the damage', tuple(paths))
            for which, paths in found.items() if paths]


def _is_jpeg(path: str) -> bool:
    if not osp.isfile(path):
        return False
    with open(path, 'rb') as file:
        return file.read(3) == b'\xff\xd8\xff'


def check_orientation(images: dict, scans: dict) -> list[Finding]:
    """Images that loaders turn as their EXIF data say, and the masks that have to be turned too.

    Args:
        images: set -> paths. scans: path -> Scan.
    """
    out = []
    for which in SETS:
        turned = [path for path in images[which] if scans[path].turn != 1]
        if turned and which == 'unlabelled':
            out.append(Finding('note', 'orientation', f'{len(turned)} unlabelled images are turned '
                               f'as their EXIF data say: {listed(turned, 20)}',
                               names=tuple(turned)))
        elif turned:
            out.append(Finding(
                'warning', 'orientation', f'{len(turned)} {which} images are turned as their EXIF '
                f'data say, masks are not: {listed(turned, 20)}', 'write these images as they are '
                "to be seen, without such data; or set color_type='color_ignore_orientation' of "
                'every LoadImageFromFile if the masks are of the stored pixels', tuple(turned)))
    return out


def check_manifest(manifest, files, progress=iter) -> list[Finding]:
    """Compare every image and mask with its checksum.

    Args:
        manifest: a Manifest, or None. files: paths. progress: wraps the files, for a bar.
    """
    if manifest is None:
        return [Finding('note', 'manifest', 'no checksums: a damaged file that still decodes '
                        'cannot be found', f'{command("doctor")} CONFIG --write-manifest FILE, '
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


def check_labels(counts: LabelCounts, classes, reduce_zero_label: bool, num_parts: int = 1,
                 ignored: int = IGNORE) -> list[Finding]:
    """Values, ignored pixels, reduce_zero_label, and how often each class occurs.

    Args:
        counts: of the label maps as training sees them.
        classes: names, in order.
        reduce_zero_label: what the data set does.
        num_parts: K; a class with fewer pixels cannot be clustered.
        ignored: what the head ignores.
    """
    if not counts.maps:
        return [Finding('error', 'labels', 'no label map could be read: '
                        + listed(counts.problems, 1), 'correct seg_map_path and seg_map_suffix',
                        tuple(counts.problems))]
    out = [Finding('error', 'labels', f'{len(counts.problems)} masks: {counts.problems[0]}',
                   'as the message says', tuple(counts.problems))] if counts.problems else []
    number, pixels = len(classes), counts.pixels
    out += _zero_label(pixels, number, reduce_zero_label, ignored)
    share = pixels[ignored] / pixels.sum()
    if share > 0.5:
        out.append(Finding('warning', 'ignored pixels', f'{share:.1%} of the labelled pixels are '
                           f'{ignored} and train nothing',
                           'check reduce_zero_label and what the masks use for "no label"'))
    return out + _classes(counts, classes, num_parts)


def _zero_label(pixels, number: int, reduced: bool, ignored: int) -> list[Finding]:
    outside = [int(v) for v in np.flatnonzero(pixels) if v >= number and v != ignored]
    if not reduced and pixels[0] == 0 and pixels[number] > 0 \
            and number != ignored:
        return [Finding('error', 'reduce_zero_label', f'the values go from 1 to {number} and 0 '
                        'never occurs: the masks count from 1',
                        'set reduce_zero_label=True in the data set (labelled and validation)')]
    if reduced and number > 1 and pixels[number - 1] == 0 and pixels[ignored] > 0 \
            and (pixels[:number - 1] > 0).all():
        return [Finding('error', 'reduce_zero_label', 'with reduce_zero_label=True the last class '
                        'never occurs and every other does: the masks seem to count from 0, so '
                        'that class 0 is being ignored', 'set reduce_zero_label=False')]
    if outside:
        share = pixels[outside].sum() / pixels.sum()
        return [Finding('error', 'label values', f'values {outside[:8]} occur ({share:.2%} of the '
                        f'pixels), but the classes are 0 to {number - 1} and {ignored} is '
                        'ignored', f'correct the classes, or map such pixels to {ignored}')]
    if not reduced and pixels[0] == 0:
        return [Finding('warning', 'reduce_zero_label', 'the value 0 never occurs',
                        'if the masks count from 1, set reduce_zero_label=True')]
    return [Finding('ok', 'label values', f'all are 0 to {number - 1}, or {ignored}')]


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
    """Heads, losses and the preprocessor's padding have to agree on what is ignored."""
    place, ignored = _main_head(model)
    wrong = [f'{place}={value}' for place, value in _ignored_values(model) if value != ignored]
    if not wrong:
        return [Finding('ok', 'ignore index', f'{ignored} everywhere')]
    return [Finding('error', 'ignore index', f'{", ".join(wrong)}, but {place}={ignored}: what '
                    'one of them ignores would train another as a class, padding too',
                    f'set it to {ignored}')]


def ignore_index(model: dict) -> int:
    """What the decode head of a model's config ignores; of a cascade the last head."""
    return _main_head(model)[1]


def _main_head(model: dict) -> tuple:
    """(place, value) of its ``ignore_index``."""
    found = [(place, value) for place, value in _ignored_values(model)
             if '.decode_head.' in place and 'loss_decode' not in place]
    return found[-1] if found else ('the default', IGNORE)


def _ignored_values(model: dict):
    """(dotted place, value) of what heads ignore and label maps are padded with; defaults too."""
    for place, value in [('model', model), *_walk(model, 'model')]:
        if isinstance(value, dict) and place.endswith('.data_preprocessor'):
            yield f'{place}.seg_pad_val', value.get('seg_pad_val', IGNORE)
        elif isinstance(value, dict) and ('loss_decode' in value or 'ignore_index' in value):
            yield f'{place}.ignore_index', value.get('ignore_index', IGNORE)


def _walk(value, place: str):
    """(dotted place, value) of everything inside dicts and lists."""
    items = (value.items() if isinstance(value, dict) else
             enumerate(value) if isinstance(value, (list, tuple)) else ())
    for key, inside in items:
        yield f'{place}.{key}', inside
        yield from _walk(inside, f'{place}.{key}')
