"""Configs of the training stages, from a config of data, network and schedule."""
from __future__ import annotations

import copy
import math

from mmengine.config import Config

from ..storage.config import hooks_in, kind

STRONG = (dict(type='StrongColours'), dict(type='NoiseCutOut'))


def wrapped(data: Config, method: dict, hooks: dict) -> Config:
    """The data config with its segmentor inside a method that trains on labelled images.

    The best checkpoint is not kept: it is chosen on validation labels, and none may leak.

    Args:
        data: its model a plain segmentor, its training set a SemiDataset.
        method, hooks: of the method's ``configs/<method>/method.py``.

    Raises:
        ValueError: another model or training set, or no ``train_cfg.max_iters``.
    """
    cfg = copy.deepcopy(data)
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    if kind(dataset) != 'SemiDataset' or not dataset.get('unlabeled'):
        raise ValueError(f'{cfg.filename} trains on {kind(dataset)}: name a config whose '
                         'train_dataloader.dataset is a SemiDataset with an unlabelled list')
    if 'segmentor' in cfg.model:
        raise ValueError(f'{cfg.filename} is of the method {kind(cfg.model)}: name the config of '
                         'its data, such as configs/_base_/partitions/camvid_1-16.py')
    if not cfg.get('train_cfg', {}).get('max_iters'):
        raise ValueError(f'{cfg.filename} has no train_cfg.max_iters, the length of each stage')
    cfg.model = dict(method, segmentor=cfg.model)
    cfg.merge_from_dict(dict(default_hooks=hooks))
    cfg.default_hooks.checkpoint.pop('save_best', None)
    if not any(kind(hook) == 'ProtocolHook' for hook in hooks_in(cfg)):
        cfg.default_hooks.protocol = dict(type='ProtocolHook')
    if 'custom_imports' not in cfg:
        cfg.custom_imports = dict(imports=['mmseg_esl.register'])
    return cfg


def teacher_config(cfg: Config, snapshots: int) -> tuple[Config, list[int]]:
    """Stage 1: labelled images alone. The config, and the iterations of its K snapshots.

    They are at about 1/K, 2/K, ... of the training, multiples of the checkpoints' interval, and
    the last one at its end.
    """
    cfg = copy.deepcopy(cfg)
    _images_a_step(cfg, with_unlabeled=False)
    total, hook = cfg.train_cfg.max_iters, cfg.default_hooks.checkpoint
    if snapshots == 1:
        return cfg, [total]
    part, window = total // snapshots, cfg.optim_wrapper.get('accumulative_counts', 1)
    own = hook.get('interval', -1)  # often enough to resume from
    saves = math.ceil(part / own) if own > 0 else 1
    interval = part // max(saves, 1) // window * window
    if interval < 1:
        raise ValueError(f'train_cfg.max_iters={total} is too short for {snapshots} snapshots')
    hook.update(interval=interval, max_keep_ckpts=-1)
    return cfg, [k * saves * interval for k in range(1, snapshots)] + [total]


def retrain_config(cfg: Config, records: list, count: int, num_labeled: int,
                   metainfo: dict) -> Config:
    """Labelled images, repeated ceil(count / L) times, and pseudo-labelled ones in one list.

    The strong augmentation goes to the latter alone, after their weak view. A step has as many
    images as the data config gives it, labelled and unlabelled ones together.

    Args:
        records: paths of ``pseudo_labels.json``. count: of all their images.
        num_labeled: L. metainfo: of the labelled set.

    Raises:
        ValueError: an unlabelled pipeline that cannot be made one of pseudo-labelled images.
    """
    cfg = copy.deepcopy(cfg)
    _images_a_step(cfg, with_unlabeled=True)
    dataset = cfg.train_dataloader.dataset
    own = ('label_map', 'reduce_zero_label')  # of the labelled masks, not of predicted ones
    meta = {key: value for key, value in metainfo.items() if key not in own}
    pseudo = [dict(type='PseudoLabeledDataset', ann_file=str(record), metainfo=meta,
                   pipeline=strong_pipeline(dataset.unlabeled)) for record in records]
    repeated = dict(type='RepeatDataset', times=math.ceil(count / num_labeled),
                    dataset=dataset.labeled.to_dict())
    dataset.labeled = dict(
        type='ConcatDataset', datasets=[repeated, *pseudo], ignore_keys=list(own))
    dataset.allow_overlap = True  # the unlabelled list stays, unread: the protocol is named by it
    return cfg


def strong_pipeline(unlabeled: dict) -> list:
    """The pipeline of an unlabelled set for images with masks, strongly augmented."""
    while 'pipeline' not in unlabeled and (unlabeled.get('datasets') or unlabeled.get('dataset')):
        unlabeled = unlabeled.get('dataset') or unlabeled['datasets'][0]
    steps = copy.deepcopy(list(unlabeled.get('pipeline') or ()))
    kinds = [kind(step) for step in steps]
    if kinds.count('LoadEmptyAnnotations') != 1 or kinds[-1] != 'PackSegInputs':
        raise ValueError(f'the unlabelled pipeline is {" -> ".join(kinds)}: it needs '
                         'LoadEmptyAnnotations, in whose place the masks are read, and '
                         'PackSegInputs at its end')
    steps[kinds.index('LoadEmptyAnnotations')] = dict(type='LoadAnnotations')
    return [*steps[:-1], *(dict(step) for step in STRONG), steps[-1]]


def _images_a_step(cfg: Config, with_unlabeled: bool) -> None:
    """Ask the batch sampler for images of the labelled set alone."""
    loader = cfg.train_dataloader
    sampler = loader.batch_sampler
    which = 'total' if 'total_labeled' in sampler else 'num'
    number = sampler[f'{which}_labeled']
    if with_unlabeled:
        number += sampler[f'{which}_unlabeled']
    sampler.update({f'{which}_labeled': number, f'{which}_unlabeled': 0})
    loader.batch_size = number
