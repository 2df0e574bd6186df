"""Write the config of a method around a user's own."""
from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import mmengine
from mmengine.config import Config
from mmseg.registry import HOOKS, MODELS

import mmseg_esl

from ..datasets.files import survey_images
from ..semi import Role, SemiSegmentor
from ..semi.roles import first_average
from ..storage.config import kind
from . import data, schedule, trial
from .text import Code, assignment, comment, heading, literal, one_a_line

DEFAULT = 'esl_plus'  # the folder of configs/ whose method is taken if nobody asks for another
# Shares of a training that are supervised alone, and over which the rest then rises: in a short
# run a young teacher's mistakes would rule. Of a long one, not more than so many iterations.
WARM_UP, RAMP, LONGEST = 0.2, 0.2, 2000
# Share of a training that an average looks back over, 1 / (1 - momentum) iterations; with a
# method's own momentum, made for tens of thousands, the teacher of a short run is no better
# than its first networks.
AVERAGED = 0.05


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


class Method:
    """What a folder of ``configs/`` says of its method, and what the method's class does.

    Args:
        name: of the folder, such as 'esl'.

    Raises:
        Refused: there is no such folder; lists those there are.
    """

    def __init__(self, name: str):
        if name not in methods():
            raise Refused(f'--method {name}: choose one of {", ".join(methods())}')
        self.path = configs() / name / 'method.py'
        cfg = Config.fromfile(str(self.path))
        self.cfg, self.hooks = cfg.method.to_dict(), cfg.method_hooks.to_dict()
        self.own_optimizers = cfg.get('method_optim', {}).get('networks', {})
        self.model: type[SemiSegmentor] = MODELS.get(self.cfg['type'])
        parsed = self.model.parse_cfg(self.cfg.get('semi_train_cfg'))
        self.title = self.model.name_of(parsed)
        self.momentum = parsed.ema_momentum
        self.roles: dict[str, Role] = self.model.roles_of(parsed)
        self.predicts = (self.cfg.get('semi_test_cfg') or {}).get(
            'predict_on', first_average(self.roles))
        self.sees_unlabeled = any(self.model.passes(parsed)['unlabeled'])

    @property
    def networks(self) -> list[str]:
        """The whole segmentors, the one that predicts first."""
        plain = [name for name, role in self.roles.items() if role.plain]
        return sorted(plain, key=lambda name: name != self.predicts)

    @property
    def parts(self) -> list[str]:
        """What is trained beside the segmentors."""
        return [name for name, role in self.roles.items() if not (role.plain or role.follows)]

    @property
    def lookers(self) -> list[str]:
        """Names of the hooks that look at images by themselves, as fixed transforms make them."""
        return [name for name, hook in self.hooks.items() if 'type' in hook
                and 'transforms' in inspect.signature(HOOKS.get(hook['type'])).parameters]


def configs() -> Path:
    """The folder ``configs``: of the wheel, or of the checkout."""
    package = Path(mmseg_esl.__file__).resolve().parent
    inside = package / '.mim/configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def methods() -> list[str]:
    """Names of the folders of ``configs`` that add a method."""
    return sorted(path.parent.name for path in configs().glob('*/method.py'))


def convert(source: str, unlabeled: str, out: str, max_iters: int | None = None,
            method: str = DEFAULT) -> Conversion:
    """A method around ``source``, with the images below ``unlabeled``.

    Args:
        source: path, or ``package::`` name, of a config that trains an mmseg segmentor.
        unlabeled: folder of images.
        out: where the text will be written, for the way from there to ``source``.
        max_iters: length of the training; None keeps the user's.
        method: one of :func:`methods`.

    Raises:
        Refused: with the reason and the remedy.
    """
    (number, left), method = check_folder(unlabeled), Method(method)
    cfg = load(source)
    if trains_method(cfg):
        raise Refused(f'{source} is wrapped in {kind(cfg.model)} already')
    report = Conversion()
    report.check.extend(f'--unlabeled {unlabeled}: {sentence}' for sentence in left)
    try:
        # the model last: it is built, which takes longer than to find that something is missing
        blocks = [*_data(cfg, method, unlabeled, number, report),
                  *_training(cfg, method, max_iters, report)]
        blocks = [*_model(cfg, method, report), *_pace(cfg, method, max_iters, report), *blocks]
    except ValueError as error:
        raise Refused(str(error)) from error
    which = 'with' if method.sees_unlabeled else 'without'
    head = [heading(f'{method.title} around {_shown(source)},\n{which} the unlabelled images of\n'
                    f'{unlabeled}\nWritten by the converter of mmseg_esl; yours to edit.'),
            one_a_line('_base_', [_reference(source, out), base_name(method, out)])]
    report.text = '\n'.join(head) + '\n\n' + '\n'.join(blocks) + '\n'
    return report


# ------------------------------------------------------------------------------ reading


def check_folder(folder: str) -> tuple[int, list]:
    """Number of images below it, and what is said of the rest."""
    if not os.path.isdir(folder):
        raise Refused(f'--unlabeled {folder}: there is no such folder')
    names, left = survey_images(folder)
    if not names:
        raise Refused('. '.join([f'--unlabeled {folder}: no image (jpg, png, bmp, tif, webp) below '
                                 'it', *left.sentences()]))
    return len(names), left.sentences()


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


def trains_method(cfg) -> bool:
    """Whether the config has a method around its segmentor."""
    model = MODELS.get(kind(cfg.get('model') or {}))
    return inspect.isclass(model) and issubclass(model, SemiSegmentor)


def base_name(method: Method, out: str) -> str:
    """How the new config names the method's file."""
    if '.mim' in method.path.parts:
        return f'mmseg_esl::{method.path.parent.name}/{method.path.name}'
    return _reference(method.path, out)


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


def _model(cfg, method: Method, report: Conversion):
    if not cfg.get('model'):
        raise Refused('the config has no model: convert the one that you train with')
    model = cfg.model.to_dict()
    losses = list(_losses(model))
    settings, why = trial.find_settings(model, method.cfg)
    yield 'model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)'
    if settings:
        yield comment(why)
        yield from _updates('model', settings)
        report.done.append(why)
    yield from _own_parts(model, trial.with_settings(method.cfg, settings), report)
    if trial.has_focal(model):
        report.check.append(trial.FOCAL)
    if losses:
        yield from losses
        report.done.append('the cross entropy is a mean over valid pixels (avg_non_ignore)')
    if any('use_sigmoid' in line for line in losses):
        report.check.append('your loss was a sigmoid per class (use_sigmoid); soft labels need the '
                           'softmax, so the learning rate may need another look')
    if model.get('auxiliary_head'):
        report.check.append(
            'the auxiliary heads are frozen; networks that rely on them (BiSeNet, ICNet, '
            'Fast-SCNN, ...) want semi_train_cfg.auxiliary_loss=True')
    yield ''


def _own_parts(model: dict, method: dict, report: Conversion):
    """Lines that fit the method's own parts to the decoder, and to what is installed."""
    head = model.get('decode_head') or {}
    width = (head[-1] if isinstance(head, (list, tuple)) else head).get('channels')
    for name, part in method.items():  # heads beside the classifier
        if width and isinstance(part, dict) and width < part.get('channels', 0):
            yield f"model['{name}'].update(channels={width})  # as wide as your decoder"
    wanted = (method.get('strong_view') or {}).get('type')
    if wanted:
        report.check.append('the student sees unlabelled images in other colours: where colours '
                            'alone tell your classes apart, set model.strong_view=None')
    if wanted == 'KorniaStrongView' and not find_spec('kornia'):
        yield "model['strong_view'] = dict(type='RandomIntensity')  # kornia is not installed"
        report.check.append("colours are RandomIntensity's, since kornia is not installed: "
                            'pip install "mmseg_esl[strong]", and take the line out')


def _pace(cfg, method: Method, max_iters: int | None, report: Conversion):
    """When the unlabelled images begin to count; our choice, see docs/results/recipe.md."""
    if not method.sees_unlabeled:
        return
    length = max_iters or cfg.train_cfg.max_iters
    warm, ramp = (min(round(share * length), LONGEST) for share in (WARM_UP, RAMP))
    yield '# begin supervised: a young teacher is wrong too often'
    yield f"model['semi_train_cfg'].update(warmup_iters={warm}, ramp_iters={ramp})"
    momentum = round(1 - 1 / max(AVERAGED * length, 2), 4)
    if momentum < method.momentum and any(role.follows for role in method.roles.values()):
        yield '# in so short a run the average has to look back less far'
        yield f"model['semi_train_cfg'].update(ema_momentum={momentum})"
        report.done.append(f'averages follow by ema_momentum={momentum}, not {method.momentum}: '
                           f'over a twentieth of the {length} iterations')
    yield ''
    report.done.append(f'unlabelled images count from iteration {warm} on, fully from {warm + ramp}'
                       f' of {length}')
    if (method.cfg.get('semi_train_cfg') or {}).get('alignment'):
        report.check.append(
            'labels of unlabelled images are brought to the class shares of the labelled ones: if '
            'those were chosen to show rare classes, set semi_train_cfg.alignment=0; if they are '
            'a few dozen, alignment_margin=1 believes their shares only roughly')
        report.check.extend(data.evened_classes(cfg.train_dataloader.dataset.to_dict()))


def _updates(name: str, settings: dict):
    """Lines that set values in a dictionary, and entries in its dictionaries."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _updates(f'{name}[{key!r}]', value)
        else:
            yield assignment(f'{name}[{key!r}]', value)


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


def _data(cfg, method: Method, unlabeled: str, number: int, report: Conversion):
    user = cfg.get('train_dataloader')
    if not user or not user.get('dataset'):
        raise Refused('the config has no train_dataloader: convert the one that you train with')
    user = user.to_dict()
    sets = data.leaves(user['dataset'])
    report.check.extend(data.lossy_masks(sets))
    pipelines = [each.get('pipeline') or [] for each in sets]
    if not pipelines[0]:
        raise Refused(f'the training set {kind(sets[0])} has no pipeline in the config')
    if any(each != pipelines[0] for each in pipelines):
        report.check.append('the training sets have different pipelines: weak_view follows the '
                           'first')
    validation = (cfg.get('val_dataloader') or {}).get('dataset') or {}
    prepared = [dict(step) for step in validation.get('pipeline') or []]
    loading, view, dropped = data.weak_view(pipelines[0], {kind(step) for step in prepared})
    view = [_linked(step, cfg) for step in view]
    left = ', '.join(dropped)
    report.done.append('weak view of the unlabelled images: '
                       + (f'your pipeline without {left}' if left else 'your whole pipeline'))
    if dropped:
        report.check.append('labelled images keep your whole pipeline; a transform of your own '
                            'that moves pixels belongs into weak_view too')
    yield comment(f'your pipeline for images without labels; left out: {left or "nothing"}')
    yield one_a_line('weak_view', view)
    size = user.get('batch_size', 1)
    more = size if method.sees_unlabeled else 0
    report.done.append(f'a step on each GPU: {size} labelled images, as before, and {more} of '
                      f'{number} unlabelled ones')
    if more == 1:
        report.check.append('one unlabelled image a step: CutMix has nothing to mix it with. Raise '
                            'batch_sampler.num_unlabeled, and batch_size by as much')
    if more:
        report.check.append(f'memory: a step has {2 * size} images, where it had {size}, and '
                           f'{len(method.networks)} network(s); halve both counts and batch_size '
                           'if it does not fit')
    yield assignment('train_dataloader', data.dataloader(user, unlabeled, loading, more))
    report.scale = next((step for step in prepared if kind(step) == 'Resize'), None)
    for folder in data.mask_folders([*sets, validation], unlabeled):
        report.check.append(f'the masks in {folder} lie below --unlabeled: photos would be learnt '
                            'from them. Name the folder of the photos alone')
    report.check.append('an image of --unlabeled that is among the labelled ones too is refused in '
                       'training: list the others and set unlabeled.ann_file')
    yield ''


def _linked(step: dict, cfg) -> dict:
    """A crop of the user's ``crop_size`` follows that variable."""
    if step.get('crop_size') and step['crop_size'] == cfg.get('crop_size'):
        return dict(step, crop_size=Code('_base_.crop_size'))
    return step


# ------------------------------------------------------------------------- the training


def _training(cfg, method: Method, max_iters: int | None, report: Conversion):
    train, factor = schedule.loops(cfg, max_iters)
    yield assignment('optim_wrapper', schedule.optimizer(cfg, method.parts, method.own_optimizers))
    params = schedule.schedulers(cfg, factor)
    if params:
        yield one_a_line('param_scheduler', params)
    yield assignment('train_cfg', train)
    if cfg.get('val_cfg'):
        delete = kind(cfg.val_cfg) not in ('ValLoop', '-')
        yield assignment('val_cfg', dict(**dict(_delete_=True) if delete else {},
                                         type='SemiValLoop'))
        report.done.append('validation: ' + ' and '.join(f'{n}/mIoU' for n in method.networks))
        yield from _evaluator(cfg.get('val_evaluator') or {})
    else:
        report.check.append('your config does not validate, so nothing says how well it learns')
    if 'max_epochs' in cfg.train_cfg:
        yield 'log_processor = dict(by_epoch=False)'
        report.done.append(f'{cfg.train_cfg.max_epochs} epochs became {max_iters} iterations')
    yield from _hooks(cfg, method, schedule.hooks(cfg, train, factor, method.predicts), report)
    yield assignment('custom_imports', schedule.joined_imports(cfg))


def _evaluator(given):
    """Lines that let IoUMetric, alone or among others, say each class."""
    if isinstance(given, (list, tuple)):
        if 'IoUMetric' in map(kind, given):
            yield '# reports have each class'
            yield assignment('val_evaluator', [
                dict(each, type='PerClassIoUMetric') if kind(each) == 'IoUMetric' else dict(each)
                for each in given])
    elif kind(given) == 'IoUMetric':
        yield "val_evaluator = dict(type='PerClassIoUMetric')  # reports have each class"


def _hooks(cfg, method: Method, changes: dict, report: Conversion):
    """The method's hooks, by name, and what of them has to be changed; the user's list."""
    yield 'default_hooks = _base_.method_hooks'
    for name, values in changes.items():
        if name in method.hooks:
            arguments = ', '.join(f'{key}={literal(value)}' for key, value in values.items())
            yield f'default_hooks[{name!r}].update({arguments})'
        else:
            yield assignment(f'default_hooks[{name!r}]', values)
    yield "default_hooks['protocol'] = dict(type='ProtocolHook')  # reports have lists and command"
    for name in method.lookers if report.scale else ():
        yield '# it looks at the labelled images once, at the size of your validation'
        yield (f'default_hooks[{name!r}].update(transforms=['
               f'{literal(report.scale, 4, 50)}])')
    text, dropped = schedule.kept_hooks(cfg)
    if dropped:
        yield assignment('custom_hooks', text)
        report.done.append(f'without your {", ".join(dropped)}: the method averages itself')
    watching = [kind(hook) for hook in cfg.get('custom_hooks') or [] if 'monitor' in hook]
    if watching:
        report.check.append(f'{", ".join(watching)}: monitor must name {method.predicts}/mIoU, say')
