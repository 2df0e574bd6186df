"""Can this model be served? Build it inside the method and let it take a step on noise."""
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

from ..models.probe import in_channels, sizes
from ..models.segmentors import build_segmentor
from ..storage.config import kind, offline

MASK_HEADS = ('MaskFormerHead', 'Mask2FormerHead')
SIZE = (64, 64)  # of the noise; a forward, not a training, so small


def find_settings(model: dict, method: dict) -> tuple[dict, str]:
    """What has to be set in a method so that the model trains in it.

    Args:
        model: config of the user's segmentor. method: config of the method without it.

    Returns:
        (settings, why): ``{}``, or the first of the method's ``fallbacks`` that serves; the reason.

    Raises:
        ValueError: the model cannot be wrapped at all; in the words of whoever refused.
    """
    name = head_name(model)
    if name in MASK_HEADS:
        raise ValueError(f'{name} classifies masks, not pixels, so there is no distribution over '
                         'classes to make a label of: use another decode_head')
    model = without_focal(model)
    try:
        step(model, method)
        return {}, ''
    except Exception as error:  # whatever the user's own head may raise
        first = last = error
    try:
        net = build_segmentor(_segmentor(model))
        choices = MODELS.get(method['type']).fallbacks(net)
        if method.get('strong_view') and in_channels(net) != 3:
            choices.insert(0, (dict(strong_view=None), 'strong views without changed colours'))
    except Exception as error:
        raise ValueError(f'a model with {name} cannot be wrapped: {error}') from error
    for settings, why in choices:
        try:
            step(model, with_settings(method, settings))
        except Exception as error:
            last = error
        else:
            return settings, f'{why} ({str(first).split(". ")[0]})'
    raise ValueError(f'a model with {name} cannot be wrapped: {last}') from last


FOCAL = ("mmseg's FocalLoss computes on GPUs alone (its CPU path ends in an error of shapes), so "
         'the model was tried with cross entropy in its place: train on a GPU')


def has_focal(value) -> bool:
    """Whether a config has a FocalLoss that this machine cannot compute."""
    return without_focal(value) != value


def without_focal(value):
    """A model's config that this machine can compute: see FOCAL."""
    if torch.cuda.is_available():
        return value
    if isinstance(value, dict):
        if kind(value) == 'FocalLoss':
            return dict(type='CrossEntropyLoss')
        return {key: without_focal(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_focal(inside) for inside in value)
    return value


def head_name(model: dict) -> str:
    """Type of the (last) decode head."""
    head = model.get('decode_head') or {}
    return kind(head[-1] if isinstance(head, (list, tuple)) else head)


def step(model: dict, method: dict) -> None:
    """One forward of the loss, with two labelled and two unlabelled images."""
    init_default_scope('mmseg')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # training will say it again
        built = MODELS.build(ConfigDict({**copy.deepcopy(method), 'segmentor': _segmentor(model)}))
    with torch.no_grad():
        for size in sizes(built.main, SIZE):  # some networks take training's size alone
            try:
                return _take(built, size)
            except Exception as caught:
                error = caught
    raise error


def _take(built, size: tuple) -> None:
    with _same_random_numbers():
        samples = [_sample(size, built.num_classes, index < 2) for index in range(4)]
        images = torch.randn(4, in_channels(built.main), *size)
        built.prepare_trial().loss(images, samples)


def _segmentor(model: dict) -> ConfigDict:
    return ConfigDict(copy.deepcopy(offline(model)))


def with_settings(method: dict, settings: dict) -> dict:
    """A method's config with other values; of dictionaries, their entries."""
    new = copy.deepcopy(method)
    for key, value in settings.items():
        new[key] = {**new.get(key, {}), **value} if isinstance(value, dict) else value
    return new


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
