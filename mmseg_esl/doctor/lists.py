"""The images of a config: which are labelled, unlabelled and for validation."""

from __future__ import annotations

import math
import os
import os.path as osp
import struct
from dataclasses import dataclass, field

import cv2
import numpy as np
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from ..datasets import wrapped
from ..datasets.bad_samples import BadDataError
from ..datasets.checks import LabelValues, bad_data
from ..datasets.file_check import PNG, content_problem, orientation, path_problem
from ..datasets.manifest import digest
from ..storage.config import kind

SETS = ('labelled', 'unlabelled', 'validation')
LARGE = 10 ** 8  # pixels of an image that is worth a word


@dataclass
class Plain:
    """The images of a supervised config, in the attributes of a SemiDataset; none unlabelled."""
    labeled: object
    num_labeled: int
    metainfo: dict
    num_classes: int | None
    label_values: LabelValues
    unlabeled: object = None
    num_unlabeled: int = 0

    @classmethod
    def of(cls, train: dict) -> Plain:
        dataset = wrapped.build(train, 'labeled')
        number = wrapped.size(dataset, 'labeled')
        classes = dataset.metainfo.get('classes')
        num_classes = len(classes) if classes else None
        values = LabelValues(num_classes, wrapped.ignored_value(dataset))
        wrapped.insert_checks(dataset, values, None)
        return cls(dataset, number, dataset.metainfo, num_classes, values)


@dataclass
class Lists:
    """Paths of the images by set, and of the masks.

    ``semi``: the SemiDataset, its own checks of files and overlap left to the doctor. ``val``:
    the validation dataset or None.
    """
    semi: object
    val: object = None
    images: dict = field(default_factory=dict)  # set -> list of paths
    masks: dict = field(default_factory=dict)
    own: set = field(default_factory=set)  # images that a loader of the user's own reads

    @classmethod
    def of(cls, cfg) -> Lists:
        """Build both datasets of a config. Raises what they raise: named errors."""
        init_default_scope('mmseg')
        train = dict(cfg.train_dataloader['dataset'])
        if kind(train) == 'SemiDataset':
            train.update(check_files=False, allow_overlap=True, manifest=None)
            semi = DATASETS.build(train)
        else:
            semi = Plain.of(train)
        val = cfg.get('val_dataloader')
        lists = cls(semi, val and DATASETS.build(val['dataset']))
        for which, dataset in zip(SETS, (semi.labeled, semi.unlabeled, lists.val)):
            infos = list(wrapped.infos(dataset)) if dataset is not None else []
            lists.own.update(_paths((info for leaf, info in infos if not wrapped.stock_step(
                getattr(leaf, 'pipeline', ()), 'LoadImageFromFile')), 'img_path'))
            infos = [info for _, info in infos]
            lists.images[which] = _paths(infos, 'img_path')
            # a mask that an unlabelled image may have is none of our business
            lists.masks[which] = _paths(infos, 'seg_map_path') if which != 'unlabelled' else []
        return lists

    def files(self) -> list[str]:
        """Every image and mask, once."""
        return sorted({path for group in (self.images, self.masks)
                       for paths in group.values() for path in paths})


def _paths(infos, key: str) -> list[str]:
    return list(dict.fromkeys(str(info[key]) for info in infos if key in info))


@dataclass(frozen=True)
class Scan:
    """What one reading of an image says.

    ``problem`` or '', checksum, hash, 16 bits or not, EXIF's orientation, number of pixels.
    """
    problem: str
    digest: str = ''
    hash: bytes = b''
    deep: bool = False
    turn: int = 1
    pixels: int = 0


def scan_image(path: str, stock: bool = True) -> Scan:
    """Read one local image; not ``stock``: one that only a loader of the user's own can decode."""
    problem = path_problem(path)
    if problem:
        return Scan(problem)
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError as error:
        return Scan(f'it cannot be read ({type(error).__name__})')
    problem = content_problem(data)
    if problem:
        return Scan(problem)
    png = data[:8] == PNG
    if png and math.prod(struct.unpack('>II', data[16:24])) > LARGE:  # decoding takes a gigabyte
        return Scan('', digest(data), deep=data[24] == 16,
                    pixels=math.prod(struct.unpack('>II', data[16:24])))
    if not stock:
        return Scan('', digest(data))
    try:  # a quarter of the size is plenty for a hash, and JPEG decodes it faster
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    except cv2.error:
        pixels = None
    if pixels is None:
        return Scan('it is no readable image')
    return Scan('', digest(data), perceptual_hash(pixels), png and data[24] == 16,
                orientation(data), 16 * pixels.size)


def perceptual_hash(grey: np.ndarray) -> bytes:
    """64 bits of which alike images share most: signs of the low DCT frequencies of (H, W).

    The usual pHash, written out: its library would bring a compiled dependency for four lines.
    """
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    return np.packbits(low > np.median(low[1:])).tobytes()


def label_maps(lists: Lists):
    """(path of the mask, label map as training sees it or None, what is wrong or '')."""
    for leaf, info in wrapped.infos(lists.semi.labeled):
        steps = wrapped.loading_steps(leaf.pipeline)
        path = info.get('seg_map_path', info.get('img_path'))
        if not steps:
            continue
        try:
            yield path, wrapped.Reading(steps)(dict(info))['gt_seg_map'], ''
        except BadDataError as error:
            yield path, _values_alone(steps, info), str(error)
        except Exception as error:
            yield path, None, str(bad_data('mask', path, f'{type(error).__name__}: {error}'))


def _values_alone(steps, info: dict):
    """The label map without the checks: wrong values are to be counted too."""
    try:
        for step in steps:
            if wrapped.reads_labels(step):
                return step(dict(info, seg_fields=[]))['gt_seg_map']
    except Exception:  # said already
        return None


def existing_parent(folder: str) -> str:
    """The folder, or the nearest one above it that exists."""
    folder = osp.abspath(folder)
    while not osp.isdir(folder):
        folder = osp.dirname(folder)
    return folder or os.sep
