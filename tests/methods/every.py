"""Every method that is registered, in every setting worth a test of its own."""
from __future__ import annotations

import copy
from dataclasses import fields

import tiny
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import nn

from mmseg_esl.semi import SemiSegmentor

# Beside a method's defaults, which are always tested; a method without an entry is fine.
SETTINGS = {
    'AugSeg': [dict(extra_weak=True)],
    'CutMixSeg': [dict(consistency='hard'), dict(counting='pixel')],
    'CPS': [dict(joint_forward=False), dict(mixing=True)],
    'CCT': [dict(ramp_iters=10)],
    'ESL': [dict(variant='hard'), dict(variant='topk+ctr', topk=2), dict(variant='sup')],
    'ESLPlus': [dict(variant='dsl+ctr', alignment=0.0, weighting='confidence'),
                dict(views=2, clean_share=0.5, alignment_margin=1.0)],
    'GCT': [dict(dc_weight=0.0, joint_forward=False)],
    'FixMatch': [dict(labels_by='teacher')],
    'GTASeg': [dict(teacher_mode='train', ema_buffers=False, joint_forward=False)],
    'MeanTeacher': [dict(consistency='hard'),
                    dict(teacher_mode='train', ema_buffers=False, ema_schedule='constant',
                         joint_forward=False)],
    'PC2Seg': [dict(labels_by='teacher', cutout=8, debias='sampling'),
               dict(negatives_from='batch', debias='none')],
    'PseudoSeg': [dict(background=False, joint_forward=False)],
    'ReCo': [dict(mixing='cutmix', joint_forward=False)],
    'Supervised': [dict(average=True)],
    'PSMT': [dict(epoch_iters=1), dict(cutmix='three', vat_radius=0.0)],
    'U2PL': [dict(joint_forward=False, indexing='release')],
    'UniMatch': [dict(labels_by='teacher')]}
# Trained networks that a method moves beside the optimiser's steps.
MOVED = {'GTASeg': {'student'}}
# so that pixels count before anything is learnt, few of them, and in images of 32 pixels
SOON = dict(threshold=0.4, confidence=0.5, strong_threshold=0.5, weak_threshold=0.4, cutout=8,
            num_anchors=16)


def _below(cls):
    for sub in cls.__subclasses__():
        yield from (sub, *_below(sub))


METHODS = {cls.__name__: cls for cls in sorted(set(_below(SemiSegmentor)), key=lambda c: c.__name__)
           if cls.__module__.startswith('mmseg_esl.methods.')}


class Case:
    """A method and keys of its ``semi_train_cfg``."""

    def __init__(self, kind: str, **keys):
        self.kind, self.cls, self.keys = kind, METHODS[kind], keys
        known = {field.name for field in fields(self.cls.cfg_class)}
        self.semi = {**{k: v for k, v in SOON.items() if k in known}, **keys}

    @property
    def cfg(self):
        return self.cls.parse_cfg(self.semi)

    @property
    def roles(self):
        return self.cls.roles_of(self.cfg)

    def model_cfg(self, *args, **semi):
        return tiny.method_cfg(self.kind, *args, **{**self.semi, **semi})

    def build(self, *args, **kwargs):
        return tiny.method(self.kind, *args, **{**self.semi, **kwargs})

    def hooks(self, *more) -> list:
        """What it needs beside it, the guard, and ``more``."""
        return [*(dict(type=kind) for kind in self.cls.hooks_of(self.cfg)),
                dict(type='FiniteGuardHook'), *more]

    def __repr__(self):
        return ' '.join([self.kind, *(f'{k}={v}' for k, v in self.keys.items())])


CASES = [Case(kind, **keys) for kind in METHODS for keys in ({}, *SETTINGS.get(kind, ()))]


@MODELS.register_module()
class PointwiseBackbone(BaseModule):
    """Sees one pixel at a time, so that padding can come into a loss by the loss alone."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.one = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x):
        x = self.one(x)
        return [x, self.two(x)]


def pointwise(**head) -> dict:
    return tiny.segmentor(
        backbone=dict(type='PointwiseBackbone'),
        decode_head=tiny.fcn(in_channels=8, in_index=1, kernel_size=1, **head))


def part(model, name: str) -> dict:
    """Copies of a network's tensors."""
    return {key: value.clone() for key, value in getattr(model, name).state_dict().items()}


def resting(model) -> set:
    """Averages that stay as they are in this iteration: methods may let them take turns."""
    return {name for name in model.named(trained=False) if model.momentum(name, model.iter) is None}


def everything(runner) -> dict:
    """Copies of all tensors of model and optimiser."""
    model = getattr(runner.model, 'module', runner.model)
    found = {key: value.clone() for key, value in model.state_dict().items()}
    state = copy.deepcopy(runner.optim_wrapper.optimizer.state_dict())
    return {**found, **dict(tensors(state, 'optimizer'))}


def tensors(tree, name: str):
    if isinstance(tree, torch.Tensor):
        yield name, tree
    elif isinstance(tree, (dict, list, tuple)):
        for key, value in (tree.items() if isinstance(tree, dict) else enumerate(tree)):
            yield from tensors(value, f'{name}.{key}')


def differing(a: dict, b: dict) -> list:
    return sorted(a.keys() ^ b.keys()) + [k for k in a if k in b and not torch.equal(a[k], b[k])]


class Spoil(Hook):
    """One value of the last image is NaN at an iteration."""
    priority = 'VERY_HIGH'

    def __init__(self, at: int):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            image = data_batch['inputs'][-1].float()
            image[0, 5, 5] = torch.nan
            data_batch['inputs'][-1] = image
