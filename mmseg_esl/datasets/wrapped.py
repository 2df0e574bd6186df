"""The datasets inside a SemiDataset: building them, walking through them, and their pipelines."""

from __future__ import annotations

import codecs
import copy
import os.path as osp
from functools import partial
from typing import Iterator

from mmengine.dataset import Compose
from mmseg.datasets import MultiImageMixDataset
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from .checks import IGNORE, CheckFiles, CheckMask, LabelValues, bad_data
from .files import Folders, is_local
from .manifest import Manifest

# by name, along the bases: mmcv, mmseg and a user's own may all be there or not
LABEL_READERS = {
    'LoadAnnotations', 'LoadPanopticAnnotations', 'LoadBiomedicalAnnotation', 'LoadDepthAnnotation'
}


def build(dataset, which: str) -> Dataset:
    """The dataset of a config; ``which`` ('labeled' or 'unlabeled') is for the messages."""
    if not isinstance(dataset, dict):
        if not (hasattr(dataset, 'metainfo') and hasattr(dataset, 'full_init')):
            raise TypeError(f'SemiDataset: {which} is a {type(dataset).__name__}. Give the config '
                            'of an mmseg dataset, or such a dataset')
    else:
        for cfg in _configs(dataset):
            _check_config(cfg, which)
        with _EmptyIsNamed(which):
            dataset = DATASETS.build(dataset)
    _let_mix(dataset, which)
    return dataset


def _let_mix(dataset, which: str) -> None:
    """Transforms of several images (RandomMosaic) find them, or the key that is to change is named.

    mmseg's draws one index too many (``random.randint(0, len(dataset))``).
    """
    for inner in _nested(dataset):
        pipeline = getattr(inner, 'pipeline', ())
        mixes = isinstance(inner, MultiImageMixDataset)
        for transform in _transforms(pipeline):
            if not hasattr(transform, 'get_indices'):
                continue
            if not (mixes and transform in pipeline):
                name = type(transform).__name__
                raise ValueError(
                    f'SemiDataset: {name} in the pipeline of {which} needs several images, which '
                    f"only a MultiImageMixDataset gives it: set {which}=dict(type='"
                    "MultiImageMixDataset', dataset=dict(...), pipeline=[...]) with the set as it "
                    'is as dataset, its pipeline cut after its last Load... transform, and as '
                    f'pipeline what followed, {name} among it and in no other transform')
            if not isinstance(transform.get_indices, partial):
                transform.get_indices = partial(_within, transform.get_indices)


def _within(draw, dataset) -> list[int]:
    found = draw(dataset)
    return [index % len(dataset) for index in (
        found if isinstance(found, (list, tuple)) else [found])]


def without_file_checks(dataset):
    """The config of an unlabelled set that does not look for its files at the start."""
    if not isinstance(dataset, dict):
        return dataset
    dataset = copy.deepcopy(dataset)
    for cfg in _configs(dataset):
        if cfg.get('type') in ('UnlabeledDataset', 'mmseg.UnlabeledDataset'):
            cfg['check_files'] = False
    return dataset


def reads_labels(transform) -> bool:
    """Whether a transform is one of those that open a label file."""
    return bool({base.__name__ for base in type(transform).__mro__} & LABEL_READERS)


def size(dataset: Dataset, which: str) -> int:
    """Number of images, > 0, after the list has been loaded."""
    with _EmptyIsNamed(which):
        dataset.full_init()
    if len(dataset) == 0:
        raise ValueError(_empty(which))
    return len(dataset)


def _empty(which: str) -> str:
    return (f'SemiDataset: the {which} set holds no image. Check its ann_file, '
            'data_prefix=dict(img_path=...), img_suffix and indices')


class _EmptyIsNamed:
    """mmengine cannot serialise an empty list, and says so in numpy's words."""

    def __init__(self, which: str) -> None:
        self.which = which

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if kind is ValueError and 'need at least one array' in str(error):
            raise ValueError(_empty(self.which)) from error


def _configs(cfg: dict) -> Iterator[dict]:
    """A dataset's config and those of the datasets it wraps."""
    yield cfg
    inner = list(cfg.get('datasets') or [])
    for wrapped in inner + [cfg.get('dataset')]:
        if isinstance(wrapped, dict):
            yield from _configs(wrapped)


def _check_config(cfg: dict, which: str) -> None:
    """Say what is missing before mmseg meets it (a bare AssertionError)."""
    root = cfg.get('data_root') or ''
    folder = osp.join(root, (cfg.get('data_prefix') or {}).get('img_path') or '')
    if folder and is_local(folder, cfg.get('backend_args')) and not osp.isdir(folder):
        raise FileNotFoundError(
            f"SemiDataset: the image folder '{folder}' of {which} does not exist. Set data_root "
            f"(now '{root}') and data_prefix=dict(img_path=...) of {which}")
    ann_file = osp.join(root, cfg.get('ann_file') or '')
    if not cfg.get('ann_file') or not is_local(ann_file, cfg.get('backend_args')):
        return
    if not osp.exists(ann_file):
        raise FileNotFoundError(
            f"SemiDataset: the list '{ann_file}' (ann_file of {which}) does not exist. Set "
            f"ann_file, relative to data_root (now '{root}'), to a text file with one image a line")
    if osp.isdir(ann_file):  # mmseg would take every image of the set
        raise ValueError(f"SemiDataset: the list '{ann_file}' (ann_file of {which}) is a folder. "
                         'Name the file in it, or leave ann_file out to take the whole folder of '
                         'images')
    if not osp.isfile(ann_file):
        raise ValueError(f"SemiDataset: the list '{ann_file}' (ann_file of {which}) is no regular "
                         'file: reading it could wait for ever')
    with open(ann_file, 'rb') as file:
        lines = [line for line in file if line.strip()]
    if lines and lines[0].startswith(codecs.BOM_UTF8) and 'Unlabeled' not in str(cfg.get('type')):
        raise ValueError(f"SemiDataset: the list '{ann_file}' (ann_file of {which}) begins with a "
                         'byte-order mark, which mmseg takes for a part of the first name: save it '
                         'as UTF-8 without one')
    if not lines:
        raise ValueError(f"SemiDataset: the list '{ann_file}' (ann_file of {which}) is empty. "
                         'Write one image a line')


def _nested(dataset) -> Iterator:
    """A dataset and, below it, every dataset that it wraps."""
    yield dataset
    for inner in list(getattr(dataset, 'datasets', [])) + [getattr(dataset, 'dataset', None)]:
        if inner is not None:
            yield from _nested(inner)


def leaves(dataset) -> list:
    """The datasets that hold the images, each once however often it is repeated."""
    found = {id(d): d for d in _nested(dataset)
             if not (hasattr(d, 'datasets') or hasattr(d, 'dataset'))}
    return list(found.values())


def first_places(dataset, start: int = 0) -> Iterator[int]:
    """The index of every image in ``dataset``, once however often it is repeated."""
    if hasattr(dataset, 'datasets'):
        for inner in dataset.datasets:
            yield from first_places(inner, start)
            start += len(inner)
    elif hasattr(dataset, 'dataset'):  # RepeatDataset: the first round
        yield from first_places(dataset.dataset, start)
    else:
        yield from range(start, start + len(dataset))


def infos(dataset) -> Iterator[tuple[Dataset, dict]]:
    """(leaf, data info) one at a time: a list of a million dicts would stay in every worker.

    Without the images of ``unlisted`` leaves (UnlabeledShards), which nobody should walk through.
    """
    for leaf in leaves(dataset):
        if getattr(leaf, 'unlisted', False):
            continue
        for index in range(len(leaf)):
            yield leaf, leaf.get_data_info(index)


def backend(leaf) -> dict | None:
    """The dataset's ``backend_args``."""
    return getattr(leaf, 'backend_args', None)


class RealPath:
    """os.path.realpath for many files of few folders: each folder is resolved once."""

    def __init__(self) -> None:
        self.folders: dict = {}
        self.listed = Folders()

    def __call__(self, path: str) -> str:
        if not is_local(path):
            return path
        folder, name = osp.split(path)
        if folder not in self.folders:
            self.folders[folder] = osp.realpath(folder)
        path = osp.join(self.folders[folder], name)
        return osp.realpath(path) if self.listed.islink(folder, name) else path


# ----------------------------------------------------------------------------- pipelines


class _ForgetMask:
    """First transform of every unlabelled pipeline: what has no path cannot be opened."""

    def __call__(self, results: dict) -> dict:
        results.pop('seg_map_path', None)
        return results

    def __repr__(self) -> str:
        return 'ForgetMask()'


def forget_masks(unlabeled) -> None:
    """Let every pipeline of the unlabelled set begin by removing the path to the mask."""
    for leaf in leaves(unlabeled):
        pipeline = getattr(leaf, 'pipeline', None)
        if not isinstance(pipeline, Compose):
            raise TypeError(f'SemiDataset: {type(leaf).__name__} (unlabeled) has no mmengine '
                            'pipeline. Use UnlabeledDataset or any dataset of mmseg')
        if not any(isinstance(t, _ForgetMask) for t in pipeline.transforms):
            pipeline.transforms.insert(0, _ForgetMask())


class Reading(Compose):
    """A pipeline in which whatever reads a file has to give something.

    For None mmengine takes another image in silence, which a transform may mean that finds no crop
    to its liking; of a loader it is a fault of this file, or a forgotten ``return results``.

    Raises:
        BadDataError: a transform gives None that reads labels, or before which there is no image.
    """

    def __call__(self, results: dict):
        for step in self.transforms:
            labels = reads_labels(step)
            reads, what = labels or 'img' not in results, 'mask' if labels else 'image'
            path = results.get('seg_map_path' if labels else 'img_path')
            results = step(results)
            if results is None and reads:
                raise bad_data(what, path, f'{type(step).__name__} gave None for it. A loader '
                               'returns the results, or raises an error that says what is wrong')
            if results is None:
                return None
        return results


def insert_checks(dataset, values: LabelValues, manifest: Manifest | None) -> None:
    """Let every pipeline check its files first, and its label map right after reading it."""
    for leaf in leaves(dataset):
        pipeline = getattr(leaf, 'pipeline', None)
        if not isinstance(pipeline, Compose):
            continue  # a dataset of the user's own; what it gives is checked when it has arrived
        steps = pipeline.transforms
        if any(isinstance(step, CheckFiles) for step in steps):
            continue
        reads = [place for place, step in enumerate(steps) if reads_labels(step)]
        if reads:
            steps.insert(reads[-1] + 1, CheckMask(values))
        check = CheckFiles(len(leaf), stock_step(pipeline, 'LoadImageFromFile'),
                           stock_step(pipeline, 'LoadAnnotations'), manifest,
                           getattr(leaf, 'masks_as_loaded', False))
        steps.insert(1 if steps and isinstance(steps[0], _ForgetMask) else 0, check)
        leaf.pipeline = Reading(steps)


def loading_steps(pipeline: Compose) -> list:
    """The transforms up to the last one that reads or checks labels; [] if none reads them."""
    steps = pipeline.transforms
    last = [place for place, step in enumerate(steps)
            if reads_labels(step) or isinstance(step, CheckMask)]
    return steps[:last[-1] + 1] if last else []


def _of_kind(pipeline, name: str):
    """The first transform of a class, or of one derived from it; by name, see LABEL_READERS."""
    for transform in _transforms(pipeline):
        if name in {base.__name__ for base in type(transform).__mro__}:
            return transform
    return None


def stock_step(pipeline, name: str):
    """The transform of a kind if it reads files as mmcv and mmseg do, else None.

    One whose methods are a user's own (a subclass that reads arrays, 12 bands, colour masks) may
    read files that nobody else can: what it gives is checked, not the file.
    """
    step = _of_kind(pipeline, name)
    known = step is not None and all(
        getattr(type(step), method).__module__.split('.')[0] in ('mmcv', 'mmseg')
        for method in ('transform', '_load_seg_map') if hasattr(type(step), method))
    return step if known else None


def has_empty_labels(dataset) -> bool:
    """Whether a pipeline makes up label maps by LoadEmptyAnnotations: they say nothing true."""
    return any(_of_kind(getattr(leaf, 'pipeline', ()), 'LoadEmptyAnnotations') is not None
               for leaf in leaves(dataset))


def check_separate(labeled, unlabeled) -> None:
    """Raise ValueError if one dataset object serves both sets."""
    shared = {id(leaf) for leaf in leaves(labeled)} & {id(leaf) for leaf in leaves(unlabeled)}
    if shared:
        raise ValueError('SemiDataset: labeled and unlabeled share one dataset object, whose '
                         'pipeline cannot load labels and leave them alone. Build two datasets')


def _transforms(pipeline) -> Iterator:
    """Every transform of a pipeline, also inside RandomApply, RandomChoice and the like."""
    for transform in getattr(pipeline, 'transforms', pipeline):
        yield transform
        if hasattr(transform, 'transforms'):
            yield from _transforms(transform)


def label_reader(dataset) -> str | None:
    """The name of the transform in the dataset's own pipeline that opens label files."""
    for transform in _transforms(getattr(dataset, 'pipeline', ())):
        if reads_labels(transform):
            return type(transform).__name__
    return None


def check_reads_no_label(unlabeled) -> None:
    """Raise ValueError if an unlabelled pipeline opens labels or depends on them."""
    for dataset in _nested(unlabeled):
        reader = label_reader(dataset)
        if reader:
            raise ValueError(
                f'SemiDataset: the pipeline of unlabeled contains {reader}, which opens label '
                "files. Put dict(type='LoadEmptyAnnotations') in its place")
        for transform in _transforms(getattr(dataset, 'pipeline', ())):
            crops = 'RandomCrop' in {base.__name__ for base in type(transform).__mro__}
            if crops and getattr(transform, 'cat_max_ratio', 1.0) < 1:
                raise ValueError(
                    'SemiDataset: RandomCrop in the pipeline of unlabeled has '
                    f'cat_max_ratio={transform.cat_max_ratio}, which chooses the crop by its '
                    'labels. Remove cat_max_ratio (it is 1.0 by default) from that pipeline')
            if _label_padding(transform) == 0:
                raise ValueError(
                    f'SemiDataset: {type(transform).__name__} in the pipeline of unlabeled pads '
                    'label maps with 0, which is a pixel of the image there. Let it pad them with '
                    '255 (seg_pad_val, or seg of pad_val): no label of that set is learned')


def _label_padding(transform):
    """What a transform fills label maps with where there is no image, or None."""
    pads = getattr(transform, 'pad_val', None)
    return pads.get('seg') if isinstance(pads, dict) else getattr(transform, 'seg_pad_val', None)


def ignored_value(dataset) -> int:
    """``ignore_index`` of an mmseg data set, or of the first one that it wraps."""
    return next((leaf.ignore_index for leaf in leaves(dataset)
                 if getattr(leaf, 'ignore_index', None) is not None), IGNORE)
