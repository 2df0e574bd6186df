"""Can this model be served? Build it inside the wrapper and let it take a step on noise."""
from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager

import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from ..storage.config import kind

MASK_HEADS = ('MaskFormerHead', 'Mask2FormerHead')
SIZE = 64  # of the noise; a forward, not a training, so small


def find_settings(model: dict, esl: dict) -> tuple[dict, str]:
    """What has to be set in the wrapper so that the model trains in it.

    Args:
        model: config of the user's segmentor. esl: config of the wrapper without it.

    Returns:
        (settings, why): ``{}``, ``dict(embedding=...)`` or ``dict(variant='dsl')``, and the reason.

    Raises:
        ValueError: the model cannot be wrapped at all; in the words of whoever refused.
    """
    name = head_name(model)
    if name in MASK_HEADS:
        raise ValueError(f'{name} classifies masks, not pixels, so there is no distribution over '
                         'classes to make a soft label of: use another decode_head')
    try:
        step(model, esl)
        return {}, ''
    except Exception as error:  # whatever the user's own head may raise
        first = error
    plain = _with(esl, semi_train_cfg=dict(variant='dsl'))
    try:
        wrapper = step(model, plain)
    except Exception as error:
        raise ValueError(f'a model with {name} cannot be wrapped: {error}') from error
    for path in classifiers(wrapper):
        try:
            step(model, _with(esl, embedding=path))
        except Exception:
            continue
        return dict(embedding=path), f"the projector reads the input of '{path}'"
    return dict(variant='dsl'), str(first).split('. ')[0]


def head_name(model: dict) -> str:
    """Type of the (last) decode head."""
    head = model.get('decode_head') or {}
    return kind(head[-1] if isinstance(head, (list, tuple)) else head)


def step(model: dict, esl: dict):
    """One forward of the loss, with two labelled and two unlabelled images; returns the wrapper."""
    init_default_scope('mmseg')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # training will say it again
        wrapper = MODELS.build(ConfigDict(copy.deepcopy({**esl, 'segmentor': offline(model)})))
    wrapper.driven = True  # as TeacherEMAHook would say
    if wrapper.part_memory is not None:
        wrapper.part_memory.start(torch.randn(wrapper.part_memory.prototypes.shape))
        wrapper.part_memory.active = True
    with torch.no_grad(), _same_random_numbers():
        size = (SIZE, SIZE)
        samples = [_sample(size, wrapper.num_classes, index < 2) for index in range(4)]
        wrapper.train().loss(torch.randn(4, 3, *size), samples)
    return wrapper


def classifiers(wrapper) -> list[str]:
    """Paths of the decode head's convolutions that give one channel a class; last one first."""
    head, classes = wrapper._main_head(wrapper.student), wrapper.num_classes
    found = [name for name, module in head.named_modules()
             if isinstance(module, nn.Conv2d) and module.out_channels == classes]
    return [f'decode_head.{name}' for name in reversed(found)]


def offline(model):
    """The model's config without pretrained weights: noise needs none."""
    if isinstance(model, (list, tuple)):
        return type(model)(offline(each) for each in model)
    if not isinstance(model, dict):
        return model
    off = {str: None, bool: False}  # a file's name; timm's switch
    return {key: off.get(type(value), value) if key == 'pretrained' else offline(value)
            for key, value in model.items()}


def _with(esl: dict, **changes) -> dict:
    new = copy.deepcopy(esl)
    new['semi_train_cfg'].update(changes.pop('semi_train_cfg', {}))
    return {**new, **changes}


def _sample(size: tuple, num_classes: int, labeled: bool) -> SegDataSample:
    label = torch.randint(num_classes, (1, *size)) if labeled else torch.zeros(1, *size).long()
    sample = SegDataSample(gt_sem_seg=PixelData(data=label))
    sample.set_metainfo(dict(img_shape=size, ori_shape=size, pad_shape=size, labeled=labeled))
    return sample


@contextmanager
def _same_random_numbers():
    """The same noise every time, and no trace of it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
