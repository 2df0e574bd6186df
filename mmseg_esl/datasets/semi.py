"""A labelled and an unlabelled dataset as one."""

from __future__ import annotations

import logging
import os.path as osp

from mmengine.logging import print_log
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from . import wrapped
from .bad_samples import BadDataError, BadSamples, check_options
from .checks import IGNORE, LabelValues
from .files import Findings, is_jpeg_name, is_local
from .manifest import Manifest
from .seeding import seeded
from .unlabeled import UnlabeledDataset


@DATASETS.register_module()
class SemiDataset(Dataset):
    """Index i < num_labeled is a labelled sample, the others are unlabelled ones.

    Each item is mmseg's own ``dict(inputs=Tensor, data_samples=SegDataSample)``, with
    ``data_samples.labeled`` set to True or False in its metainfo. An item of the unlabelled set
    brings no label: every path to a mask is removed before its pipeline begins, and its label map
    is 0 (a pixel of the image) or 255 (padding). A pipeline that returns None makes the inner
    dataset draw another of its images, as always in mmengine. An index of SemiBatchSampler's brings
    the seed of its augmentation along; a plain int takes the random numbers as they come.

    Every file is looked at when it is first read (see ``CheckFiles``, ``CheckMask``): truncated or
    damaged ones, masks of another size, with colours, with values outside the classes or without
    any label. Grey, CMYK, alpha and palette images are converted by mmcv's loader; of 16 bits a
    channel cv2 keeps the high byte, which is said once; an image smaller than the crop is padded
    by the data preprocessor, its label map with 255.

    Args:
        labeled: config of (or a built) mmseg dataset, also inside ConcatDataset, RepeatDataset or
            MultiImageMixDataset (RandomMosaic).
        unlabeled: config of (or a built) UnlabeledDataset or any mmseg dataset; None only for a
            supervised run with ``num_unlabeled=0`` in the batch sampler.
        allow_overlap: accept images that are in both sets.
        check_files: look at the start whether all images, and the masks of the labelled ones,
            exist. Local files only. Not done with ``on_error='skip'``.
        num_classes: for the check of label values; None takes the labelled set's classes, and no
            check is made if it has none. The value that is ignored is the head's (SemiTrainLoop
            says it), else the labelled set's ``ignore_index``.
        lazy_init: as mmengine's; the checks wait for ``full_init``.
        on_error: what a sample that cannot be used leads to. 'raise': a BadDataError that names
            file and cause. 'skip': the next usable image of the same list in its place, and one
            warning for each file.
        max_skips: with 'skip', how many different images may fail, counted over all loader workers
            of a process (each rank counts its own), before a BadDataError lists them.
        manifest: file of SHA-256 checksums (``mmseg_esl.datasets.manifest``) against which each
            file is checked when it is first read; None for no such check.

    Attributes:
        num_labeled, num_unlabeled: sizes. metainfo: the labelled set's. guard: see ``BadSamples``.

    Raises:
        FileNotFoundError: a list, a folder, an image or a mask of the labelled set is missing.
        TypeError: a dataset or an item that is not mmseg's.
        ValueError: an empty set, an image in both sets, an unlabelled pipeline that reads labels,
            a transform of several images outside a MultiImageMixDataset.
        BadDataError: (a ValueError) when an item is fetched that cannot be used.
    """

    def __init__(self,
                 labeled,
                 unlabeled,
                 allow_overlap: bool = False,
                 check_files: bool = True,
                 num_classes: int | None = None,
                 lazy_init: bool = False,
                 on_error: str = 'raise',
                 max_skips: int = 10,
                 manifest: str | None = None) -> None:
        check_options(on_error, max_skips)
        self.on_error, self.max_skips = on_error, max_skips
        self.manifest = None if manifest is None else Manifest(manifest)
        self.allow_overlap = allow_overlap
        self.check_files = check_files and on_error == 'raise'
        if not self.check_files:
            unlabeled = wrapped.without_file_checks(unlabeled)
        self.labeled = wrapped.build(labeled, 'labeled')
        self.unlabeled = None if unlabeled is None else wrapped.build(unlabeled, 'unlabeled')
        self.metainfo = self.labeled.metainfo
        num_classes = num_classes or len(self.metainfo.get('classes') or ()) or None
        self.label_values = LabelValues(num_classes, wrapped.ignored_value(self.labeled))
        if self.unlabeled is not None:
            wrapped.check_separate(self.labeled, self.unlabeled)
            wrapped.check_reads_no_label(self.unlabeled)
            wrapped.forget_masks(self.unlabeled)
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Load both lists and check them against the disk and each other."""
        if self._fully_initialized:
            return
        self.num_labeled = wrapped.size(self.labeled, 'labeled')
        self.num_unlabeled = 0
        if self.unlabeled is not None:
            self.num_unlabeled = wrapped.size(self.unlabeled, 'unlabeled')
        images = self._check_labeled()
        if self.unlabeled is not None:
            self._check_unlabeled(images)
        wrapped.insert_checks(self.labeled, self.label_values, self.manifest)
        if self.unlabeled is not None:
            wrapped.insert_checks(self.unlabeled, LabelValues(), self.manifest)
        self._fully_initialized = True
        self.bad_samples = BadSamples(self, self.on_error, self.max_skips)

    def __len__(self) -> int:
        self.full_init()
        return self.num_labeled + self.num_unlabeled

    def get_data_info(self, idx: int) -> dict:
        """The inner dataset's description of image ``idx``; without a mask if it is unlabelled."""
        dataset, position, is_labeled = self._locate(idx)
        info = dataset.get_data_info(position)
        if not is_labeled:
            info.pop('seg_map_path', None)
        return info

    def __getitem__(self, idx: int) -> dict:
        self._locate(idx)  # an index that is too large is no bad file
        with seeded(idx):
            return self.bad_samples(self._item, idx % len(self))

    def _item(self, idx: int) -> dict:
        dataset, position, is_labeled = self._locate(idx)
        with self.bad_samples.naming(idx):
            data = dataset[position]
        _check_packed(data, dataset, is_labeled)
        if is_labeled:
            self._check_label(data)
        else:
            self._check_empty_label(data)
        data['data_samples'].set_metainfo(dict(labeled=is_labeled))
        return data

    def _locate(self, idx: int) -> tuple[Dataset, int, bool]:
        size = len(self)
        if not -size <= idx < size:
            raise IndexError(f'SemiDataset: index {idx} is outside its {size} images')
        idx %= size
        if idx < self.num_labeled:
            return self.labeled, idx, True
        return self.unlabeled, idx - self.num_labeled, False

    # ---------------------------------------------------------------- checks at the start

    def _check_labeled(self) -> set[str]:
        """Check the labelled files; returns the images' real paths."""
        images: set[str] = set()
        missing, lossy = Findings(), Findings()
        real = wrapped.RealPath()
        for leaf, info in wrapped.infos(self.labeled):
            if is_jpeg_name(str(info.get('seg_map_path', ''))):
                lossy.add(info['seg_map_path'])
            if 'img_path' not in info:
                continue
            for path in self._wanted(leaf, info):
                if not osp.isfile(path):
                    missing.add(path)
            images.add(real(info['img_path']))
        if lossy:
            print_log(f'SemiDataset: {lossy.count} masks of the labelled set are JPEG ({lossy}), '
                      'which changes values: classes get mixed up at their borders, or lost. Make '
                      'them anew as PNG', 'current', logging.WARNING)
        if missing:
            raise FileNotFoundError(
                f'SemiDataset: {missing.count} files (images or masks) of the labelled set do not '
                f'exist: {missing}. Correct data_root, data_prefix (img_path, '
                'seg_map_path), img_suffix or seg_map_suffix of labeled, or its list: mmseg '
                'appends the suffixes to every line, a blank one too')
        return images

    def _wanted(self, leaf, info: dict) -> list[str]:
        """The files that have to exist for a labelled image, if they are local."""
        if 'seg_map_path' not in info and wrapped.label_reader(leaf):
            raise ValueError(
                f"SemiDataset: the labelled image '{info['img_path']}' comes without a mask. Set "
                'data_prefix=dict(img_path=..., seg_map_path=...) of labeled')
        if not (self.check_files and is_local(info['img_path'], wrapped.backend(leaf))):
            return []
        return [info[key] for key in ('img_path', 'seg_map_path') if key in info]

    def _check_unlabeled(self, labeled_images: set[str]) -> None:
        missing, shared = Findings(), Findings()
        real = wrapped.RealPath()
        for leaf, info in wrapped.infos(self.unlabeled):
            path = info.get('img_path')
            if path is None:
                continue
            # an UnlabeledDataset has looked already
            look = self.check_files and not isinstance(leaf, UnlabeledDataset)
            if look and is_local(path, wrapped.backend(leaf)) and not osp.isfile(path):
                missing.add(path)
            if not self.allow_overlap and real(path) in labeled_images:
                shared.add(path)
        if missing:
            raise FileNotFoundError(
                f'SemiDataset: {missing.count} images of the unlabelled set do not exist: '
                f'{missing}. Correct data_root, data_prefix, img_suffix or '
                'the list of unlabeled')
        if shared:
            raise ValueError(
                f'SemiDataset: {shared.count} images are both labelled and unlabelled: '
                f'{shared}. Remove them from the unlabelled list, or set '
                'allow_overlap=True if that is meant')

    # ------------------------------------------------------------------- checks of an item

    def _check_label(self, data: dict) -> None:
        """What the transforms made of the label; the file itself has been checked before them."""
        label, sample = data['data_samples'].gt_sem_seg.data, data['data_samples']
        path = sample.metainfo.get('seg_map_path', '(path not packed)')
        if label.shape != (1, *data['inputs'].shape[-2:]):
            raise BadDataError(
                f"SemiDataset: the mask '{path}' gives a label map of shape {tuple(label.shape)} "
                f"for an image of {tuple(data['inputs'].shape)}. Check that every geometric "
                'transform of labeled changes both')
        self.label_values.check(label, path)

    def _check_empty_label(self, data: dict) -> None:
        """A value that is neither 0 nor padding means that a real label slipped in."""
        label, ignored = data['data_samples'].gt_sem_seg.data, self.label_values.ignore_index
        if ignored:  # what such a config pads with
            label[label == ignored] = IGNORE
        if ((label != 0) & (label != IGNORE)).any():
            path = data['data_samples'].metainfo.get('img_path')
            raise ValueError(
                f"SemiDataset: the label map of the unlabelled image '{path}' is not empty (values "
                f'other than 0 and {IGNORE}). Use LoadEmptyAnnotations in the pipeline of '
                f'unlabeled, and pad label maps with {IGNORE}')

    @property
    def num_classes(self) -> int | None:
        """Of the check of label values."""
        return self.label_values.num_classes


def _check_packed(data: dict, dataset: Dataset, is_labeled: bool) -> None:
    which, loader = (('labeled', 'LoadAnnotations') if is_labeled else
                     ('unlabeled', 'LoadEmptyAnnotations'))
    if not isinstance(data, dict) or not {'inputs', 'data_samples'} <= set(data):
        raise TypeError(f'SemiDataset: {type(dataset).__name__} ({which}) gave an item without '
                        "inputs and data_samples: end its pipeline with dict(type='PackSegInputs')")
    if 'gt_sem_seg' not in data['data_samples']:
        path = data['data_samples'].metainfo.get('img_path')
        raise ValueError(f"SemiDataset: the {which} image '{path}' came without a label map: put "
                         f"dict(type='{loader}') after LoadImageFromFile in the pipeline of "
                         f'{which}')
