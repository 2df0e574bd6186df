"""Loops, hooks and optimiser: the user's, made to drive a method on two streams of images."""
from __future__ import annotations

import copy

from ..storage.config import kind
from .text import Code

STOCK_LOOPS = {'IterBasedTrainLoop', 'EpochBasedTrainLoop'}
PER_EPOCH = ('begin', 'end', 'T_max', 'milestones', 'step_size', 'last_step')  # of a scheduler
DECAYS = {'ExponentialLR', 'ExponentialMomentum', 'ExponentialParamScheduler'}
# they would average what the method averages itself, its memories included
REPLACED_HOOKS = ('EMAHook', 'SyncBuffersHook')


def loops(cfg, max_iters: int | None) -> tuple[dict, float]:
    """``train_cfg`` of the new config, and by how much the schedule is stretched (1: not at all).

    Raises:
        ValueError: no train_cfg, a loop that is not mmengine's, or epochs without ``max_iters``.
    """
    train = cfg.get('train_cfg')
    if not train:
        raise ValueError('the config has no train_cfg: convert the one that you train with')
    name = kind(train) if 'type' in train else (
        'EpochBasedTrainLoop' if train.get('by_epoch') else 'IterBasedTrainLoop')
    if name not in STOCK_LOOPS:
        raise ValueError(f"train_cfg.type '{name}' is not one of mmengine's loops, so what it does "
                         "cannot be carried over: set train_cfg=dict(type='IterBasedTrainLoop', "
                         'max_iters=..., val_interval=...) in your config')
    epochs = name == 'EpochBasedTrainLoop'
    length = train.get('max_epochs' if epochs else 'max_iters')
    if epochs and max_iters is None:
        raise ValueError(
            f'the schedule counts {length} epochs (train_cfg), but batches of two image sets have '
            'none: say the length in iterations, --max-iters N. Your epochs have the labelled '
            f'images / (batch size x GPUs) iterations each; N is {length} times that, or more')
    if max_iters is None:
        stock = 'by_epoch' not in train
        return (dict(type='SemiTrainLoop') if stock else _loop(train, length, 1)), 1
    return _loop(train, max_iters, max_iters / length), max_iters / length


def _loop(train: dict, max_iters: int, factor: float) -> dict:
    new = dict(_delete_=True, type='SemiTrainLoop', max_iters=max_iters)
    new['val_interval'] = _scaled(train.get('val_interval', 1), factor)
    if train.get('val_begin'):
        new['val_begin'] = _scaled(train['val_begin'], factor)
    if train.get('dynamic_intervals'):
        new['dynamic_intervals'] = [(_scaled(begin, factor), _scaled(every, factor))
                                    for begin, every in train['dynamic_intervals']]
    return new


def schedulers(cfg, factor: float) -> list | None:
    """The user's ``param_scheduler`` stretched by ``factor``; None if it can be inherited.

    Raises:
        ValueError: one whose decay per epoch has no counterpart per iteration.
    """
    given = cfg.get('param_scheduler')
    if factor == 1 or not given:
        return None
    new = copy.deepcopy(given if isinstance(given, (list, tuple)) else [given])
    for each in new:
        each.pop('convert_to_iter_based', None)
        if kind(each) in DECAYS:
            raise ValueError(f'param_scheduler {kind(each)} decays by a factor per epoch, which '
                             'cannot be stretched to iterations: use PolyLR or CosineAnnealingLR')
        if not each.get('by_epoch', True) and not _counts_iterations(cfg):
            continue  # a warm-up by iterations beside epochs is as long as it was
        if each.get('by_epoch', True) and _counts_iterations(cfg):
            raise ValueError(f'param_scheduler {kind(each)} counts epochs and train_cfg '
                             'iterations: make it by_epoch=False')
        each['by_epoch'] = False
        for key in PER_EPOCH:
            if key in each:
                each[key] = _scaled(each[key], factor)
    return list(new)


def _counts_iterations(cfg) -> bool:
    return 'max_iters' in cfg.train_cfg


def _scaled(value, factor: float):
    if isinstance(value, (list, tuple)):
        return [_scaled(each, factor) for each in value]
    return max(1, round(value * factor)) if value else value


def optimizer(cfg, parts: list[str], own: dict) -> dict:
    """``optim_wrapper``: the student's names for the user's constructor and multipliers.

    Args:
        parts: what the method trains beside segmentors; it learns as fast as the decode head does
            (so ESL's paper has it).
        own: networks that have an optimiser of their own, see SeveralOptimizers.
    """
    given = cfg.get('optim_wrapper')
    if not given:
        raise ValueError('the config has no optim_wrapper: convert the one that you train with')
    new, paramwise = dict(constructor='StudentOptimWrapperConstructor'), {}
    inner = given.get('constructor')
    if inner and str(inner).rpartition('.')[2] != 'DefaultOptimWrapperConstructor':
        paramwise['constructor'] = inner
    keys = (given.get('paramwise_cfg') or {}).get('custom_keys') or {}
    for key in ('decode_head', 'head'):
        new_keys = [part for part in parts if part not in keys and part not in own]
        if 'lr_mult' in (keys.get(key) or {}) and new_keys:
            paramwise['custom_keys'] = {
                part: dict(lr_mult=keys[key]['lr_mult']) for part in new_keys}
            break
    if paramwise:
        new['paramwise_cfg'] = paramwise
    return dict(new, networks=own) if own else new


def hooks(cfg, train: dict, factor: float, predicts: str) -> dict:
    """What ``default_hooks`` change: iterations for epochs, and the metric that is kept best.

    Args:
        predicts: the network whose metric it is.
    """
    old = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    new, epochs = {}, not _counts_iterations(cfg)
    if epochs or not old.get('by_epoch', True):
        interval = _scaled(old.get('interval', 1), factor)
    else:  # of the whole training, which counts as one epoch: that would be at its end only
        interval = train.get('val_interval') or cfg.train_cfg.get('val_interval', 1000)
    if interval != old.get('interval') or old.get('by_epoch', True):
        new.update(by_epoch=False, interval=interval)
    judges = cfg.get('val_evaluator') or {}
    judges = judges if isinstance(judges, (list, tuple)) else [judges]
    new['save_best'] = prefixed(old.get('save_best'), predicts,
                                [judge.get('prefix') for judge in judges])
    return dict(**dict(logger=dict(log_metric_by_epoch=False)) if epochs else {}, checkpoint=new)


def prefixed(metric, predicts: str, prefixes=()):
    """A network's metric in place of the one network's; 'auto' and None stay what they are.

    Args:
        prefixes: of the evaluator's metrics, as in val/mIoU: the network stands before them. What
            stands before other metrics is a network.
    """
    if isinstance(metric, (list, tuple)):
        return [prefixed(each, predicts, prefixes) for each in metric]
    if metric in (None, 'auto'):
        return metric
    first, slash, _ = metric.partition('/')
    return metric if slash and first not in prefixes else f'{predicts}/{metric}'


def joined_imports(cfg) -> dict:
    """``custom_imports`` of the user's and ours; ours first, since it mends the stack."""
    given = cfg.get('custom_imports')
    theirs = '_base_.custom_imports.imports'
    if not given:
        imports = ['mmseg_esl.register']
    else:
        star = '' if isinstance(given['imports'], str) else '*'
        imports = ['mmseg_esl.register', Code(f'{star}{theirs}')]
    return dict(imports=imports, allow_failed_imports=False)


def kept_hooks(cfg) -> tuple[Code, list]:
    """The user's ``custom_hooks`` without those that average, and the types of the latter."""
    dropped = [kind(hook) for hook in cfg.get('custom_hooks') or []
               if kind(hook) in REPLACED_HOOKS]
    return Code(f'[hook for hook in _base_.custom_hooks if hook.type not in {REPLACED_HOOKS}]'), \
        dropped
