"""Checks of the config: batches, learning rate, normalisation, hooks."""

from __future__ import annotations

import os.path as osp

from mmseg.registry import HOOKS, LOOPS

from ..commands import command
from ..datasets.sampler import counts_per_rank
from ..results.trend import flat, read_baseline, rising
from ..semi.roles import first_average
from ..storage.config import hooks_in, kind
from .data import _walk
from .findings import Finding
from .method import method_of
from .weights import from_scratch

# Our choice: on CamVid (1/16) 5 passes in 400 iterations lost on a seed of three, 35 in 3000 on
# none. A long run over very many images has few passes, too, and is not short.
FEW_PASSES, FEW_ITERS = 20, 3000
PAPER_BATCH = 16  # 8 labelled + 8 unlabelled over all GPUs
PAPER_RATES = (1e-3, 1e-2)  # SGD, backbone: Pascal VOC, Cityscapes


def counts(cfg, world: int) -> tuple[int, int]:
    """(L, U): labelled and unlabelled images of the batch of one of ``world`` GPUs."""
    sampler = cfg.train_dataloader.get('batch_sampler') or {}
    if 'total_labeled' in sampler:
        return sampler['total_labeled'] // world, sampler.get('total_unlabeled', 0) // world
    return sampler.get('num_labeled', 0), sampler.get('num_unlabeled', 0)


def check_batches(cfg, num_labeled: int, num_unlabeled: int, world: int) -> list[Finding]:
    """The arithmetic of batches and epochs.

    Args:
        cfg: the config. num_labeled, num_unlabeled: sizes of the sets. world: processes.
    """
    loader = cfg.train_dataloader
    sampler = kind(loader.get('batch_sampler'), 'None')
    if sampler != 'SemiBatchSampler':
        return [Finding('error', 'batches', f'batch_sampler is {sampler}',
                        "set batch_sampler=dict(type='SemiBatchSampler', num_labeled=..., "
                        'num_unlabeled=...)')]
    given = {key: loader.batch_sampler.get(key) for key in (
        'num_labeled', 'num_unlabeled', 'total_labeled', 'total_unlabeled')}
    try:
        labeled, unlabeled = counts_per_rank(world, loader.get('batch_size'), **given)
    except ValueError as error:
        return [Finding('error', 'batches', str(error), 'as it says')]
    return _epochs(cfg, (labeled * world, unlabeled * world), (num_labeled, num_unlabeled), world)


def _epochs(cfg, step: tuple, sizes: tuple, world: int) -> list[Finding]:
    iters = cfg.train_cfg.get('max_iters')
    if not iters:
        return [Finding('error', 'schedule', f"train_cfg is {cfg.train_cfg.get('type')} without "
                        'max_iters: two endless streams have no epochs',
                        "set train_cfg=dict(type='IterBasedTrainLoop', max_iters=..., "
                        'val_interval=...)')]
    passes = [iters * n / size if size else 0.0 for n, size in zip(step, sizes)]
    out = [Finding('note', 'batches', f'{step[0]} labelled + {step[1]} unlabelled images a step on '
                   f'{world} GPU(s) or processes; {iters} steps see the {sizes[0]} labelled images '
                   f'{passes[0]:.1f} times and the {sizes[1]} unlabelled ones {passes[1]:.1f} '
                   'times (paper: 80 to 200; on CamVid 5 times gained nothing, 35 less than 81)')]
    for name, n, size, done in zip(('labelled', 'unlabelled'), step, sizes, passes):
        if n and done < 1:
            out.append(Finding('warning', 'schedule', f'only {done:.0%} of the {name} images are '
                               'seen', f'raise max_iters to {-(-size // n)} or more'))
        elif n and name == 'unlabelled' and done < FEW_PASSES and iters < FEW_ITERS:
            most = min(-(-FEW_PASSES * size // n), FEW_ITERS)
            out.append(Finding('warning', 'schedule', f'{iters} iterations, {done:.0f} passes over '
                               'the unlabelled images, are few: so short a run may end below a '
                               'supervised one', f'raise max_iters to {most} or more'))
        if n > size:
            out.append(Finding('warning', 'batches', f'{n} {name} images a step, but there are '
                               f'only {size}: a step repeats images', 'lower the counts'))
    return out + _schedule(cfg, iters)


def _schedule(cfg, iters: int) -> list[Finding]:
    schedules = cfg.get('param_scheduler') or []
    schedules = schedules if isinstance(schedules, (list, tuple)) else [schedules]
    ends = {i: s.get('end') for i, s in enumerate(schedules)
            if s.get('end') and not s.get('by_epoch', True)}
    last = max(ends, key=lambda i: (ends[i], i), default=None)
    if last is not None and ends[last] != iters:
        which = f'param_scheduler.{last}.end' if len(schedules) > 1 else 'param_scheduler.end'
        return [Finding('warning', 'schedule', f'the learning rate ends at {ends[last]}, the '
                        f'training at {iters}', f'set {which}={iters}, or less for a warm-up')]
    return []


def check_rate(cfg, world: int) -> list[Finding]:
    """Learning rate against the images of a step, by linear scaling from the paper's 8 + 8."""
    optimizer = cfg.optim_wrapper.get('optimizer') or {}
    rate, name = optimizer.get('lr'), optimizer.get('type')
    batch = sum(counts(cfg, world)) * world * cfg.optim_wrapper.get('accumulative_counts', 1)
    if not rate or not batch:
        return [Finding('note', 'learning rate', 'not found in optim_wrapper.optimizer.lr')]
    low, high = (PAPER_RATES if name == 'SGD' else (5e-5, 5e-3))
    share = batch / PAPER_BATCH
    what = f'{name} lr={rate:g} for {batch} images a step'
    if from_scratch(cfg) or low * share / 3 <= rate <= high * share * 3:
        return [Finding('ok', 'learning rate', what)]  # usual rates are of pretrained backbones
    source = ("the paper's, SGD for 16 images, scaled" if name == 'SGD' else
              'usual for this kind of optimiser, ours')
    return [Finding('warning', 'learning rate', f'{what} is far from {low * share:.2g} to '
                    f'{high * share:.2g} ({source})',
                    f'try lr={min(max(rate, low * share), high * share):.2g}, or '
                    'accumulative_counts for a larger step')]


def check_norm(cfg, world: int, cuda: bool) -> list[Finding]:
    """Batch norm where a forward holds few images.

    Args:
        cfg: the config. world: processes. cuda: whether the training has GPUs.
    """
    norms = {value.get('type') for place, value in _walk(cfg.model, 'model')
             if place.endswith('.norm_cfg') and isinstance(value, dict)}
    labeled, unlabeled = counts(cfg, world)
    cls, semi = method_of(cfg)
    joint = cls is None or (semi.joint_forward and not cls.apart)
    images = labeled + unlabeled if joint else min(filter(None, (labeled, unlabeled)), default=0)
    own = bool({'BN', 'BN2d'} & norms) or ('SyncBN' in norms and not cuda)
    if own and images <= 2:
        fix = ('set norm_cfg=dict(type="SyncBN", requires_grad=True)' if cuda and world > 1 else
               'raise the images per GPU, or use norm_cfg=dict(type="GN", num_groups=32)')
        return [Finding('warning', 'batch norm', f'statistics of {images} image(s) in a forward',
                        fix)]
    if 'SyncBN' in norms and not cuda:
        return [Finding('note', 'batch norm', 'SyncBN needs GPUs: it becomes plain BN here, each '
                        'process with its own statistics', 'nothing, on a CPU')]
    if 'SyncBN' in norms and images * world <= 2:
        return [Finding('warning', 'batch norm', f'statistics of {images * world} image(s)',
                        'raise the images per GPU')]
    return [Finding('ok', 'batch norm', f'{", ".join(sorted(map(str, norms))) or "none"}, {images} '
                    'images a forward and GPU')]


def check_baseline(cfg) -> list[Finding]:
    """Whether a run of this length can gain: by the supervised run beside its work folder."""
    cls, semi = method_of(cfg)
    if cls is None or not any(cls.passes(semi)['unlabeled']) or not cfg.get('work_dir'):
        return []
    run = read_baseline(cfg.work_dir)
    if run is None:
        written = _beside(cfg.filename)
        remedy = f'{command("train")} {written}' if written else (
            f'train one: {command("convert")} YOURS.py --unlabeled DIR --method supervised --out '
            f'{osp.splitext(osp.basename(cfg.filename or "this.py"))[0]}_supervised.py writes its '
            'config')
        return [Finding('note', 'baseline', f'no finished supervised run in {cfg.work_dir}'
                        '_supervised, so nothing will say whether the unlabelled images help',
                        remedy)]
    iters = (cfg.get('train_cfg') or {}).get('max_iters', run.max_iters)
    if run.max_iters != iters:
        return [Finding('warning', 'baseline', f'{run.folder.name} has {run.max_iters} iterations, '
                        f'this config {iters}: they do not compare',
                        'train both for as many iterations')]
    if rising(run):
        return [Finding('warning', 'baseline', rising(run), 'raise max_iters of both')]
    if not flat(run):
        return [Finding('note', 'baseline', f'{run.folder.name} is finished; whether it was still '
                        'learning cannot be told from the validations of its second half: too few, '
                        'or they go up and down', 'lower train_cfg.val_interval')]
    return [Finding('ok', 'baseline', f'{run.folder.name} is finished and no longer rising')]


def _beside(config: str | None) -> str | None:
    """The config that the converter wrote beside a method's for the baseline, from here."""
    path = f'{osp.splitext(config)[0]}_supervised.py' if config else ''
    return osp.relpath(path) if osp.isfile(path) else None


def check_hooks(cfg) -> list[Finding]:
    """The hooks that the method needs, and the one that it cannot live with."""
    kinds = [kind(hook) for hook in hooks_in(cfg)]
    cls, semi = method_of(cfg)
    out = []
    if 'EMAHook' in kinds:
        out.append(Finding('error', 'hooks', 'EMAHook swaps the weights that the averages follow',
                           'remove it from the hooks: a method with a teacher has its own average'))
    for name in cls.hooks_of(semi) if cls else ():
        if not any(_is(hook, name) for hook in kinds):
            out.append(Finding('error', 'hooks', f'no {name}: {cls.name_of(semi)} does not train '
                               'without it', f"add dict(type='{name}') to custom_hooks or, under a "
                               'name, to default_hooks (a list given in a leaf replaces the '
                               'inherited one)'))
    return out + _check_best(cfg, cls, semi) or [Finding('ok', 'hooks', 'all there')]


def _check_best(cfg, cls, semi) -> list[Finding]:
    """``save_best`` is a metric that the validation loop reports."""
    best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    given = [best] if isinstance(best, str) else list(best or [])
    loop = LOOPS.get(kind(cfg.get('val_cfg')))
    if cls is None or loop is None or not issubclass(loop, LOOPS.get('SemiValLoop')):
        return []
    roles = cls.roles_of(semi)
    there = (cfg.get('val_cfg') or {}).get('networks') or [n for n, r in roles.items() if r.plain]
    judges = cfg.get('val_evaluator') or {}
    judges = judges if isinstance(judges, (list, tuple)) else [judges]
    heads = [f'{judge["prefix"]}/' if judge.get('prefix') else '' for judge in judges]
    if all(name == 'auto' or any(name.startswith(f'{net}/{head}') for net in there
                                 for head in heads) for name in given):
        return []
    judge = (cfg.model.get('semi_test_cfg') or {}).get('predict_on') or first_average(roles)
    return [Finding('error', 'hooks', f"save_best='{best}' is not what {loop.__name__} reports",
                    f"set save_best='{judge}/{heads[0]}mIoU'; there are {', '.join(there)}")]


def _is(hook: str, wanted: str) -> bool:
    """Whether a hook is of that kind: itself, a subclass, or its old name."""
    found, base = HOOKS.get(hook), HOOKS.get(wanted)
    return hook == wanted or (found is not None and issubclass(found, base))
