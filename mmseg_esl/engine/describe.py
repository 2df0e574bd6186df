"""What a method says of itself, as plain data: for ``run.json``, from which tables and pages read.

Only here defaults, symbols and published names leave the classes that they belong to: whoever reads
``run.json`` needs neither torch nor the method's code.
"""
from __future__ import annotations

import inspect
from dataclasses import fields

from mmengine.model import BaseDataPreprocessor

from ..semi import SemiSegmentor
from ..semi.roles import to_meta


def describe(model) -> dict | None:
    """A method under the config that it was built with; None for a plain segmentor.

    Returns:
        type: its class. name: what tables call it.
        networks: as in a checkpoint's ``meta['networks']``: their roles, and which one predicts.
        settings: ``{key: value}`` of all of ``semi_train_cfg`` and, with dots (as in
            'part_memory.num_parts'), of the modules of its own.
        defaults: keys of ``settings`` that have their default.
        labels: ``{key: words and symbol}`` of the settings that count under this config.
        published_as: its name in published tables, or None.
        sees_unlabeled: whether unlabelled images take part in its steps.
    """
    if not isinstance(model, SemiSegmentor):
        return None
    cls, cfg = type(model), model.cfg
    settings = {field.name: _plain(getattr(cfg, field.name)) for field in fields(cfg)}
    defaults = [key for key in settings if _is_default(cfg, settings, key)]
    labels, constants = {}, {}
    for field in fields(cfg):
        said = field.metadata
        if said and (said['used'] is None or said['used'](cls, cfg)):
            labels[field.name], constants[field.name] = said['label'], said['published']
    for name, module in _own_modules(model):
        for key, value, default in _arguments(module):
            settings[f'{name}.{key}'] = value
            defaults += [f'{name}.{key}'] if value == default else []
        labels.update((f'{name}.{key}', label)
                      for key, label in getattr(module, 'labels', {}).items())
        constants.update((f'{name}.{key}', text)
                         for key, text in getattr(module, 'published', {}).items())
    changed = [text.format(settings[key]) for key, text in constants.items()
               if text and key not in defaults]
    published = cls.published_as(cfg)
    return dict(
        type=cls.__name__, name=cls.name_of(cfg), settings=settings, defaults=defaults,
        labels=labels, networks=to_meta(model.roles, model.semi_test_cfg['predict_on']),
        published_as=' '.join([published, *changed]) if published else None,
        sees_unlabeled=any(cls.passes(cfg)['unlabeled']))


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _is_default(cfg, settings: dict, key: str) -> bool:
    """Whether it would be the same, had it not been given: a default may follow other keys."""
    rest = {name: value for name, value in settings.items() if name != key}
    try:
        return _plain(getattr(type(cfg)(**rest), key)) == settings[key]
    except ValueError:  # the others cannot be without it
        return False


def _own_modules(model) -> list:
    """Modules that are no network: memories, heads, augmentations."""
    return [(name, module) for name, module in model.named_children()
            if name not in model.roles and not isinstance(module, BaseDataPreprocessor)]


def _arguments(module):
    """``(name, value, default)`` of what may be left out when it is built, if it remembers it."""
    for name, argument in inspect.signature(type(module).__init__).parameters.items():
        value = getattr(module, name, None)
        if argument.default is not argument.empty and isinstance(value, (bool, int, float, str)):
            yield name, value, argument.default
