"""The labelled loader becomes a loader of both sets."""
from __future__ import annotations

import os
from pathlib import Path

from mmseg.registry import TRANSFORMS

from ..datasets.files import find_images, is_jpeg_name
from ..datasets.wrapped import LABEL_READERS
from ..storage.config import kind
from .text import Code

# What moves pixels and neither changes colours nor looks at labels. Anything else is left out of
# the weak view, unless the validation pipeline does it too: that is preparation, not augmentation.
GEOMETRIC = {
    'Resize', 'RandomResize', 'RandomChoiceResize', 'ResizeToMultiple', 'ResizeShortestEdge',
    'RandomCrop', 'CenterCrop', 'Pad', 'RandomFlip', 'RandomRotate', 'RandomRotFlip'
}
CHOOSERS = {'RandomApply', 'RandomChoice', 'Compose'}  # they hold transforms of their own
WRAPPERS = {'ConcatDataset', 'RepeatDataset'}


def leaves(dataset: dict) -> list[dict]:
    """The datasets that hold images, below ConcatDataset and RepeatDataset.

    Raises:
        ValueError: another wrapper.
    """
    if kind(dataset) in WRAPPERS:
        inner = dataset.get('datasets') or [dataset['dataset']]
        return [leaf for each in inner for leaf in leaves(each)]
    if isinstance(dataset.get('dataset'), dict) or dataset.get('datasets'):
        raise ValueError(
            f'the training set is a {kind(dataset)}, which SemiDataset does not look into: let '
            'train_dataloader.dataset be the dataset inside, or ConcatDataset or RepeatDataset '
            'around it')
    return [dataset]


def evened_classes(dataset) -> list[str]:
    """What is to be said of labelled crops that are chosen to have no class too often."""
    ratios = {step.get('cat_max_ratio', 1.0) for each in leaves(dataset)
              for step in each.get('pipeline') or []}
    return [f'your crops are chosen by cat_max_ratio={ratio:g}, which evens the classes of '
            'labelled images, and alignment takes their shares for those of unlabelled ones: take '
            'it out of your config, or set semi_train_cfg.alignment=0'
            for ratio in ratios if ratio < 1]


def lossy_masks(sets: list[dict]) -> list[str]:
    """What is to be said of labelled sets whose masks are JPEG files, counted; by their suffix."""
    found = []
    for each in sets:
        suffix = each.get('seg_map_suffix') or '.png'
        folder = os.path.join(each.get('data_root') or '',
                              (each.get('data_prefix') or {}).get('seg_map_path') or '')
        if is_jpeg_name(suffix):
            there = find_images(folder, suffix) if os.path.isdir(folder) else []
            found.append(f'{len(there) or "the"} masks in {folder} are JPEG (*{suffix}), which '
                         'changes values: classes get mixed up at their borders, or lost. Make '
                         'them anew as PNG')
    return found


def mask_folders(sets: list, unlabeled: str) -> list[str]:
    """The folders of masks, of some datasets' configs, that lie in a folder of images."""
    named = [(each.get('data_root') or '', (each.get('data_prefix') or {}).get('seg_map_path'))
             for each in sets]
    found = dict.fromkeys(os.path.join(root, masks) for root, masks in named if masks)
    above = Path(unlabeled).resolve()
    return [folder for folder in found
            if above in (Path(folder).resolve() / 'a mask').parents]


def weak_view(pipeline: list, prepared: set) -> tuple[list, list]:
    """The unlabelled pipeline that belongs to a labelled one (paper: flip, resize, crop only).

    Args:
        pipeline: configs of the labelled transforms, from loading to packing.
        prepared: types of the validation pipeline's transforms.

    Returns:
        (loading, view, dropped): configs up to the label map, configs after it, and the types that
        were left out, in order.
    """
    loading, view, dropped = [], [], []
    for step in pipeline:
        name = kind(step)
        if _reads_labels(name):
            continue
        if name.startswith('Load'):
            loading.append(step)
        else:
            kept = _kept(step, prepared, dropped)
            view += [] if kept is None else [kept]
    loading.append(dict(type='LoadEmptyAnnotations'))
    return loading, view, dropped


def _reads_labels(name: str) -> bool:
    """Whether it is one of the transforms that open label files, or derived from one."""
    found = TRANSFORMS.get(name)
    return bool(LABEL_READERS & {name, *(base.__name__ for base in getattr(found, '__mro__', ()))})


def _kept(step: dict, prepared: set, dropped: list):
    """A transform as it goes into the weak view, or None."""
    name = kind(step)
    if name in CHOOSERS:
        return _choice(step, prepared, dropped)
    if name not in GEOMETRIC and name not in prepared and not name.startswith('Pack'):
        dropped.append(name)
        return None
    step = dict(step)
    if name == 'RandomCrop' and step.pop('cat_max_ratio', 1.0) < 1:
        dropped.append('RandomCrop.cat_max_ratio')
    return step


def _choice(step: dict, prepared: set, dropped: list):
    branches = []
    for branch in step['transforms']:
        many = isinstance(branch, (list, tuple))
        inner = [_kept(each, prepared, dropped) for each in (branch if many else [branch])]
        inner = [each for each in inner if each is not None]
        branches += [inner] if many or kind(step) == 'RandomChoice' else inner
    return dict(step, transforms=branches) if any(branches) else None


def dataloader(user: dict, unlabeled: str, loading: list, more: int) -> dict:
    """What the new config says in ``train_dataloader``; the rest is inherited.

    Args:
        more: unlabelled images of a step, beside as many labelled ones as the user's has (ESL's
            paper: 8 and 8).
    """
    size = user.get('batch_size', 1)
    new = dict(batch_size=size + more)
    if user.get('drop_last'):  # which no loader with a batch sampler takes
        kept = {key: value for key, value in user.items()
                if key not in ('drop_last', 'batch_sampler', 'sampler', 'dataset', 'batch_size')}
        new = dict(_delete_=True, **kept, **new)
    if user.get('drop_last') or kind(user.get('sampler') or {}) != 'InfiniteSampler':
        delete = {} if user.get('drop_last') else dict(_delete_=True)
        new['sampler'] = dict(**delete, type='InfiniteSampler', shuffle=True)
    elif not user['sampler'].get('shuffle', True):
        new['sampler'] = dict(shuffle=True)
    counts = dict(type='SemiBatchSampler', num_labeled=size, num_unlabeled=more)
    clash = user.get('batch_sampler') and '_delete_' not in new
    new['batch_sampler'] = dict(_delete_=True, **counts) if clash else counts
    new['dataset'] = dict(
        _delete_=True, type='SemiDataset', labeled=Code('_base_.train_dataloader.dataset'),
        unlabeled=dict(type='UnlabeledDataset', data_prefix=dict(img_path=unlabeled),
                       pipeline=[*loading, Code('*weak_view')]))
    if '_delete_' in new:
        del new['dataset']['_delete_']
    return new
