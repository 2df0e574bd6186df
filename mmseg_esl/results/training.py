"""What a run's config says about the training, in the words of a table."""
from __future__ import annotations

import re

from ..storage.config import flatten, hooks_in, kind
from .run import Run

SECTIONS = ('model', 'train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg', 'val_evaluator',
            'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'randomness')
# What may differ between runs that are averaged: seeds, where files lie, how they are read.
ASIDE = {'seed', 'data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor',
         'backend_args', 'file_client_args', 'check_files', 'manifest', 'lazy_init',
         'serialize_data', 'palette'}
WATCHERS = ('CheckpointHook', 'DiagnosticsHook', 'DistSamplerSeedHook', 'IterTimerHook',
            'LoggerHook', 'ParamSchedulerHook', 'ProtocolHook', 'PseudoLabelAuditHook',
            'RunStateHook', 'RuntimeInfoHook', 'SegVisualizationHook', 'SemiCheckpointHook',
            'StepHook', 'StepProfilerHook')
OLD_NAME = 'TeacherEMAHook'  # of StepHook; its momentum is among the method's settings
NONE = '(not set)'


def title(run: Run) -> str:
    """The method's name as ``run.json`` has it, or 'supervised (EncoderDecoder)'.

    Where it was not recorded: type, and what of ``semi_train_cfg`` is text.
    """
    if run.method:
        pseudo = ' with pseudo labels' if run.with_pseudo_labels else ''
        return run.method['name'] + pseudo
    model = run.cfg['model']
    if 'segmentor' not in model:
        return f'supervised ({kind(model)})'
    texts = [value for value in (model.get('semi_train_cfg') or {}).values()
             if isinstance(value, str)]
    return f'{kind(model)} ({", ".join(texts)})' if texts else kind(model)


def segmentor(cfg) -> dict:
    """The wrapped segmentor's config, or the model's own."""
    return cfg['model'].get('segmentor') or cfg['model']


def backbone(cfg) -> str:
    """'R50' for ResNets, the model's name for timm's, else the type."""
    found = segmentor(cfg).get('backbone') or {}
    if kind(found).startswith('ResNet') and 'depth' in found:
        return f'R{found["depth"]}'
    return found.get('model_name') or kind(found)


def evaluation(cfg) -> str:
    """How a validation predicts: 'whole image', 'centre crop 513', 'sliding window 769, 513'."""
    loader = cfg.get('val_dataloader') or {}
    pipeline = (loader.get('dataset') or {}).get('pipeline') or ()
    crops = [step['crop_size'] for step in pipeline if kind(step).endswith('CenterCrop')]
    test = segmentor(cfg).get('test_cfg') or {}
    if test.get('mode') == 'slide':
        size, stride = _size(test['crop_size']), _size(test['stride'])
        return f'sliding window {size}, stride {stride}'
    return f'centre crop {_size(crops[0])}' if crops else 'whole image'


def crop(cfg):
    """Side of the square crop that is trained on, 'H×W' of another; None if nothing is cropped."""
    data = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    pipeline = data.get('labeled', data).get('pipeline') or ()
    sizes = [step['crop_size'] for step in pipeline if kind(step) == 'RandomCrop']
    return _size(sizes[0]) if sizes else None


def _size(value) -> str:
    sides = dict.fromkeys(value if isinstance(value, (list, tuple)) else [value])
    return '×'.join(map(str, sides))


def identity(run: Run) -> dict:
    """All that runs must have in common to be averaged, ``{'optim_wrapper.optimizer.lr': 0.01}``.

    Seeds, paths and what only logs or loads are left out; so are the training lists, whose ids
    ``protocol.json`` names. Of a method's keys those count that ``run.json`` has, with defaults: to
    spell a default makes no other run.
    """
    out: dict = {}
    for section in SECTIONS:
        lists = {'ann_file'} if section == 'train_dataloader' else set()
        flatten(section, run.cfg.get(section), out, ASIDE | lists)
    for key, value in (run.method.get('settings') or {}).items():
        flatten(f'model.{key}' if '.' in key else f'model.semi_train_cfg.{key}', value, out)
    for hook in hooks_in(run.cfg):
        if kind(hook) not in WATCHERS and not (run.method and kind(hook) == OLD_NAME):
            flatten(kind(hook), hook, out)
    flatten('load_from', _of_any_seed(run.load_from, run.seed), out)
    if 'train_dataloader.batch_sampler.total_labeled' not in out:  # the batch is each process's
        flatten('processes', run.world_size, out)
    return out


def _of_any_seed(path, seed):
    """A path without the run's own seed: networks of several seeds begin each from its own."""
    return re.sub(rf'(?<!\d){seed}(?!\d)', 'SEED', path) if isinstance(path, str) else path


def differences(identities) -> list[str]:
    """The keys in which they differ, and for each of them ``key=value``, a text."""
    keys = [key for key in dict.fromkeys(k for one in identities for k in one)
            if len({str(one.get(key, NONE)) for one in identities}) > 1]
    return [', '.join(f'{_short(key)}={one.get(key, NONE)}' for key in keys[:4])
            + (f' and {len(keys) - 4} more' if len(keys) > 4 else '') for one in identities]


def _short(key: str) -> str:
    return '.'.join(key.split('.')[-2:])
