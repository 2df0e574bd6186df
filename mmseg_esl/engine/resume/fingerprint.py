"""What a resumed run has to have in common with the run that was interrupted."""
from __future__ import annotations

import dataclasses
import hashlib

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size

from ...datasets.wrapped import infos, leaves
from ...storage.config import flatten, hooks_in, kind
from ..unwrap import unwrap

# Parts of a config that say how it trains; all others (loops, logs, validation, folders, workers)
# may change from one start to the next.
SECTIONS = ('model', 'train_dataloader.batch_sampler.seed', 'train_dataloader.dataset.labeled',
            'train_dataloader.dataset.unlabeled', 'optim_wrapper', 'param_scheduler',
            'auto_scale_lr')
# Of the model, what may change: how it is tested; and semi_train_cfg, which is compared as the
# method has read it, so that a default may be written down or left out.
MAY_CHANGE = ('model.semi_test_cfg', 'model.semi_train_cfg')
HOOKS = ('PartInitHook',)
# Keys within them that do not count: where files lie (the lists are compared by what they name),
# the start weights (the checkpoint's go over them), how a network is tested.
LEFT_OUT = {'data_root', 'data_prefix', 'ann_file', 'index_dir', 'img_suffix', 'seg_map_suffix',
            'metainfo', 'backend_args', 'file_client_args', 'check_files', 'lazy_init',
            'serialize_data', 'max_refetch', 'init_cfg', 'pretrained',
            'pretrained_cfg_overlay', 'test_cfg'}
COUNTS = ('world size', 'num_labeled', 'num_unlabeled')
LOGGED = ('train_cfg.max_iters', 'device', 'torch')
UNSET = '(not set)'


def fingerprint(runner) -> dict:
    """Everything that must stay as it is, by names that a user knows; values are int or str.

    A key that is absent was not set, or had its default.
    """
    loader, model = runner.train_dataloader, unwrap(runner.model)
    sampler, data = loader.batch_sampler, loader.dataset
    out = {'world size': get_world_size(), 'device': get_device(), 'torch': torch.__version__,
           'train_cfg.max_iters': runner.max_iters,
           'classes': ', '.join(map(str, getattr(data, 'metainfo', {}).get('classes') or ()))}
    for name in ('num_labeled', 'num_unlabeled', 'shuffle'):
        if hasattr(sampler, name):
            out[name] = getattr(sampler, name)
    for name in ('labeled', 'unlabeled'):
        if getattr(data, name, None) is not None:
            out[f'{name} list'] = _listed(getattr(data, name))
    out.update(_set_fields(getattr(model, 'cfg', None)))
    out.update(_training_config(runner.cfg))
    return {key: value if type(value) in (int, bool) else str(value) for key, value in out.items()}


def _listed(dataset) -> str:
    """Number of images and a checksum of their names and their masks', relative to the folder."""
    total = hashlib.sha256()
    for leaf, info in infos(dataset):
        for key in ('img_path', 'seg_map_path'):
            path, folder = info.get(key), (getattr(leaf, 'data_prefix', None) or {}).get(key)
            if path and folder and path.startswith(folder):
                path = path[len(folder):].lstrip('/\\')
            total.update(f'{path}\n'.encode('utf-8', 'surrogateescape'))
    for leaf in leaves(dataset):
        if getattr(leaf, 'unlisted', False):
            total.update(leaf.checksum().encode())
    return f'{len(dataset)} images ({total.hexdigest()[:12]})'


def _set_fields(cfg) -> dict:
    """The keys of ``semi_train_cfg`` that have not their default: a new key changes no old run."""
    if cfg is None:
        return {}
    return {f'model.semi_train_cfg.{field.name}': getattr(cfg, field.name)
            for field in dataclasses.fields(cfg)
            if _as_list(getattr(cfg, field.name)) != _as_list(field.default)}


def _as_list(value):
    """A config file makes lists of what a dataclass has as tuples."""
    return list(value) if isinstance(value, tuple) else value


def _training_config(cfg) -> dict:
    out = {}
    for section in SECTIONS:
        value = cfg
        for key in section.split('.'):
            value = value.get(key) if isinstance(value, dict) or value is cfg else None
            if value is None:
                break
        flatten(section, value, out, LEFT_OUT)
    for hook in hooks_in(cfg):
        if kind(hook) in HOOKS:
            flatten(kind(hook), hook, out, LEFT_OUT)
    return {key: value for key, value in out.items()
            if not any(key == free or key.startswith(f'{free}.') for free in MAY_CHANGE)}


def compare(saved: dict, now: dict) -> tuple[list[str], list[str]]:
    """Lines 'key: old -> new' of what forbids to resume, and of what the log should mention.

    Another number of ranks is no obstacle if all of them together take as many images a step.
    """
    fatal, mentioned = [], []
    saved = _of_release_0_1_0(saved, now)
    same_step = _per_step(saved) == _per_step(now)
    for key in dict.fromkeys([*saved, *now]):
        old, new = saved.get(key, UNSET), now.get(key, UNSET)
        if old != new:
            harmless = key in LOGGED or (key in COUNTS and same_step)
            (mentioned if harmless else fatal).append(f'{key}: {old} -> {new}')
    return fatal, mentioned


def _of_release_0_1_0(saved: dict, now: dict) -> dict:
    """Its keys as they are called now; other fingerprints stay as they are.

    It had the average's momentum in a hook, and named the part memory's sizes even if they were its
    defaults.
    """
    if 'TeacherEMAHook.type' not in saved:
        return saved
    out = {key: value for key, value in saved.items() if not key.startswith('TeacherEMAHook.')}
    momentum = saved.get('TeacherEMAHook.momentum', '0.99')
    if momentum != '0.99':
        out['model.semi_train_cfg.ema_momentum'] = momentum
    for name, default in (('num_parts', 5), ('queue_length', 256), ('momentum', '0.99')):
        key = f'model.part_memory.{name}'
        if key not in now and out.get(key) == default:
            del out[key]
    if 'model.part_memory.type' in now:
        out.setdefault('model.part_memory.type', 'PartMemory')
    return out


def _per_step(values: dict) -> tuple:
    world = values.get('world size', 1)
    return tuple(world * values.get(key, 0) for key in COUNTS[1:])
