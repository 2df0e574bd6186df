"""Write the ESL config that wraps a user's own."""
from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import mmengine
from mmengine.config import Config

import mmseg_esl

from ..datasets.files import find_images
from ..storage.config import kind
from . import data, schedule, trial
from .text import Code, assignment, comment, literal, one_a_line


class Refused(ValueError):
    """The config cannot be converted; the message says what stands in the way."""


@dataclass
class Conversion:
    """A config's text, and what to tell the one who asked for it.

    Args:
        text: Python. done: sentences on what was set. check: sentences on what to look at.
        scale: the Resize of the validation pipeline.
    """
    text: str = ''
    done: list = field(default_factory=list)
    check: list = field(default_factory=list)
    scale: dict | None = None


def convert(source: str, unlabeled: str, out: str, max_iters: int | None = None) -> Conversion:
    """ESL around ``source``, with the images below ``unlabeled``.

    Args:
        source: path, or ``package::`` name, of a config that trains an mmseg segmentor.
        unlabeled: folder of images.
        out: where the text will be written, for the way from there to ``source``.
        max_iters: length of the training; None keeps the user's.

    Raises:
        Refused: with the reason and the remedy.
    """
    number = check_folder(unlabeled)
    cfg, esl = load(source), load(str(base_file('esl_parts.py'))).esl.to_dict()
    if kind(cfg.get('model') or {}) == 'ESL':
        raise Refused(f'{source} is an ESL config already')
    found = Conversion()
    try:
        # the model last: it is built, which takes longer than to find that something is missing
        blocks = [*_data(cfg, unlabeled, number, found), *_training(cfg, max_iters, found)]
        blocks = [*_model(cfg, esl, found), *blocks]
    except ValueError as error:
        raise Refused(str(error)) from error
    parts = 'esl_parts.py' if joins_lists(cfg) else 'esl.py'
    head = [f'# ESL around {_shown(source)},\n# with the unlabelled images of {unlabeled}. '
            'Written by convert_config.py; yours to edit.',
            one_a_line('_base_', [_reference(source, out), base_name(parts, out)])]
    found.text = '\n'.join(head) + '\n\n' + '\n'.join(blocks) + '\n'
    return found


# ------------------------------------------------------------------------------ reading


def check_folder(folder: str) -> int:
    """Number of images below it."""
    if not os.path.isdir(folder):
        raise Refused(f'--unlabeled {folder}: there is no such folder')
    number = len(find_images(folder))
    if not number:
        raise Refused(f'--unlabeled {folder}: no image (jpg, png, bmp, tif, webp) below it')
    return number


def load(source: str) -> Config:
    """Read the config, whichever way it is named."""
    try:
        path = Config._get_cfg_path(source, '')[0] if '::' in source else source
        mmengine.check_file_exist(path)
        if Config._is_lazy_import(path):
            raise Refused(
                f'{source} is a pure Python config (read_base), which no text config can inherit. '
                f"Write it out, Config.fromfile('{source}').dump('plain.py'), and convert that")
        return Config.fromfile(path)
    except Refused:
        raise
    except Exception as error:  # the config is a program: anything may come of it
        raise Refused(f'{source} cannot be loaded: {type(error).__name__}: {error}') from error


def joins_lists(cfg) -> bool:
    """Whether the user's config has lists that ours has to be joined with."""
    return bool(cfg.get('custom_hooks') or cfg.get('custom_imports'))


def base_file(name: str) -> Path:
    """A file of ``configs/esl/_base_``: of the wheel, or of the checkout."""
    package = Path(mmseg_esl.__file__).resolve().parent
    inside = package / '.mim/configs/esl/_base_' / name
    return inside if inside.is_file() else package.parent / 'configs/esl/_base_' / name


def base_name(name: str, out: str) -> str:
    """How the new config names that file."""
    path = base_file(name)
    return f'mmseg_esl::esl/_base_/{name}' if '.mim' in path.parts else _reference(path, out)


def _reference(source, out: str) -> str:
    """A name of ``source`` that is good in ``out``: relative, unless they are far apart."""
    if '::' in str(source):
        return str(source)
    source, folder = Path(source).resolve(), Path(out).resolve().parent
    relative = Path(os.path.relpath(source, folder))
    far = relative.parts.count(os.pardir) > 2
    return source.as_posix() if far else f'./{relative.as_posix()}'.replace('./..', '..')


def _shown(source: str) -> str:
    return source if '::' in source else os.path.basename(source)


# ---------------------------------------------------------------------------- the model


def _model(cfg, esl: dict, found: Conversion):
    if not cfg.get('model'):
        raise Refused('the config has no model: convert the one that you train with')
    model = cfg.model.to_dict()
    losses = list(_losses(model))
    settings, why = trial.find_settings(model, esl)
    yield 'model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)'
    if 'embedding' in settings:
        yield '# the projector reads what this layer, the classifier, reads'
        yield f"model['embedding'] = {settings['embedding']!r}"
        found.done.append(why)
    if 'variant' in settings:
        yield comment(f'soft labels without the part-contrast: {why}')
        yield f"model['semi_train_cfg']['variant'] = {settings['variant']!r}"
        found.done.append(f"variant 'dsl', without the part-contrast: {why}")
    if losses:
        yield from losses
        found.done.append('the cross entropy is a mean over valid pixels (avg_non_ignore)')
    if any('use_sigmoid' in line for line in losses):
        found.check.append('your loss was a sigmoid per class (use_sigmoid); soft labels need the '
                           'softmax, so the learning rate may need another look')
    if model.get('auxiliary_head'):
        found.check.append(
            'the auxiliary heads are frozen, as the paper has no such loss; networks that rely on '
            'them (BiSeNet, ICNet, Fast-SCNN, ...) want semi_train_cfg.auxiliary_loss=True')
    yield ''


def _losses(model: dict):
    """Lines that make each cross entropy of the decode head(s) a mean over valid pixels."""
    many = isinstance(model.get('decode_head'), (list, tuple))
    heads = model.get('decode_head') if many else [model.get('decode_head') or {}]
    lines = []
    for place, head in enumerate(heads):
        path = "model['segmentor']['decode_head']" + (f'[{place}]' if many else '')
        loss = head.get('loss_decode')
        if loss is None and head.get('type'):
            lines.append(f"{path}['loss_decode'] = dict(type='CrossEntropyLoss', "
                         'avg_non_ignore=True)')
        several = isinstance(loss, (list, tuple))
        for number, each in enumerate(loss if several else [loss or {}]):
            if kind(each) != 'CrossEntropyLoss':
                continue
            target = f"{path}['loss_decode']" + (f'[{number}]' if several else '')
            if each.get('use_sigmoid'):
                lines.append(f'{target}.update(use_sigmoid=False, avg_non_ignore=True)')
            elif not each.get('avg_non_ignore'):
                lines.append(f"{target}['avg_non_ignore'] = True")
    if lines:
        yield '# the supervised loss as a mean over valid pixels, like the unsupervised one'
    if any('use_sigmoid' in line for line in lines):
        yield '# and with a softmax, which soft labels need, in place of a sigmoid per class'
    yield from lines


# ----------------------------------------------------------------------------- the data


def _data(cfg, unlabeled: str, number: int, found: Conversion):
    user = cfg.get('train_dataloader')
    if not user or not user.get('dataset'):
        raise Refused('the config has no train_dataloader: convert the one that you train with')
    user = user.to_dict()
    sets = data.leaves(user['dataset'])
    pipelines = [each.get('pipeline') or [] for each in sets]
    if not pipelines[0]:
        raise Refused(f'the training set {kind(sets[0])} has no pipeline in the config')
    if any(each != pipelines[0] for each in pipelines):
        found.check.append('the training sets have different pipelines: weak_view follows the '
                           'first')
    validation = (cfg.get('val_dataloader') or {}).get('dataset') or {}
    prepared = [dict(step) for step in validation.get('pipeline') or []]
    loading, view, dropped = data.weak_view(pipelines[0], {kind(step) for step in prepared})
    view = [_linked(step, cfg) for step in view]
    left = ', '.join(dropped) or 'nothing'
    found.done.append(f'weak view of the unlabelled images: your pipeline without {left}')
    if dropped:
        found.check.append('labelled images keep your whole pipeline; a transform of your own that '
                           'moves pixels belongs into weak_view too')
    yield comment(f'your pipeline for images without labels; left out: {left}')
    yield one_a_line('weak_view', view)
    size = user.get('batch_size', 1)
    found.done.append(f'a step on each GPU: {size} labelled images, as before, and {size} of '
                      f'{number} unlabelled ones')
    found.check.append(f'memory: a step has {2 * size} images, where it had {size}, and two '
                       'networks; halve both counts and batch_size if it does not fit')
    yield assignment('train_dataloader', data.dataloader(user, unlabeled, loading))
    found.scale = next((step for step in prepared if kind(step) == 'Resize'), None)
    found.check.append('an image of --unlabeled that is among the labelled ones too is refused in '
                       'training: list the others and set unlabeled.ann_file')
    yield ''


def _linked(step: dict, cfg) -> dict:
    """A crop of the user's ``crop_size`` follows that variable."""
    if step.get('crop_size') and step['crop_size'] == cfg.get('crop_size'):
        return dict(step, crop_size=Code('_base_.crop_size'))
    return step


# ------------------------------------------------------------------------- the training


def _training(cfg, max_iters: int | None, found: Conversion):
    train, factor = schedule.loops(cfg, max_iters)
    yield assignment('optim_wrapper', schedule.optimizer(cfg))
    params = schedule.schedulers(cfg, factor)
    if params:
        yield one_a_line('param_scheduler', params)
    yield assignment('train_cfg', train)
    if cfg.get('val_cfg'):
        delete = kind(cfg.val_cfg) not in ('ValLoop', '-')
        yield assignment('val_cfg', dict(**dict(_delete_=True) if delete else {},
                                         type='TeacherStudentValLoop'))
        found.done.append('validation: teacher/mIoU and student/mIoU')
    else:
        found.check.append('your config does not validate, so nothing says how well it learns')
    yield assignment('default_hooks', schedule.hooks(cfg, train, factor))
    if 'max_epochs' in cfg.train_cfg:
        yield 'log_processor = dict(by_epoch=False)'
        found.done.append(f'{cfg.train_cfg.max_epochs} epochs became {max_iters} iterations')
    yield from _lists(cfg, found)


def _lists(cfg, found: Conversion):
    if found.scale:
        yield 'esl_hooks = _base_.esl_hooks'
        yield '# PartInitHook looks at the labelled images once, at the size of your validation'
        yield f'esl_hooks[1].update(transforms=[{literal(found.scale, 4, 40)}])'
    if joins_lists(cfg):
        yield assignment('custom_imports', schedule.joined_imports(cfg))
    hooks, dropped = schedule.joined_hooks(cfg, 'esl_hooks' if found.scale else '_base_.esl_hooks')
    if found.scale or joins_lists(cfg):
        yield assignment('custom_hooks', hooks)
    if dropped:
        found.done.append(f'without your {", ".join(dropped)}: the wrapper averages itself')
    watching = [kind(hook) for hook in cfg.get('custom_hooks') or [] if 'monitor' in hook]
    if watching:
        found.check.append(f'{", ".join(watching)}: monitor must name teacher/mIoU, say')
