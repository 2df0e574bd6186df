"""Configs as data: types, hooks, dotted keys; standard library only."""
from __future__ import annotations

from dataclasses import field
from typing import Callable


def kind(cfg, absent: str = '-') -> str:
    """The type of a module without its scope: 'ResNetV1c' of 'mmpretrain.ResNetV1c'.

    Args:
        cfg: a module's config, or None.
        absent: what is given for a config without a type.
    """
    return str((cfg or {}).get('type', absent)).split('.')[-1]


def hooks_in(cfg) -> list[dict]:
    """Configs of all hooks of a whole config, by name (``default_hooks``) or in the list."""
    named = (cfg.get('default_hooks') or {}).values()
    return [hook for hook in [*named, *(cfg.get('custom_hooks') or ())] if isinstance(hook, dict)]


def hook_key(cfg, wanted: str) -> str:
    """Where the first hook of a type stands, as --cfg-options name it: 'default_hooks.parts'.

    Raises:
        ValueError: there is none.
    """
    places = [*(('default_hooks', *item) for item in (cfg.get('default_hooks') or {}).items()),
              *(('custom_hooks', *item) for item in enumerate(cfg.get('custom_hooks') or ()))]
    for section, name, hook in places:
        if isinstance(hook, dict) and kind(hook) == wanted:
            return f'{section}.{name}'
    raise ValueError(f'no {wanted} among the hooks of the config')


def offline(model):
    """The model's config without pretrained weights: noise needs none."""
    if isinstance(model, (list, tuple)):
        return type(model)(offline(each) for each in model)
    if not isinstance(model, dict):
        return model
    off = {str: None, bool: False}  # a file's name; timm's switch
    return {key: off.get(type(value), value) if key == 'pretrained' else offline(value)
            for key, value in model.items()}


def flatten(name: str, value, out: dict, left_out=()) -> None:
    """Nested dicts and lists to ``{'a.b.0': value}``; None is as good as nothing.

    Args:
        name: the key of ``value``.
        out: is added to.
        left_out: keys that are skipped at any depth.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in left_out:
                flatten(f'{name}.{key}', inner, out, left_out)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            flatten(f'{name}.{index}', inner, out, left_out)
    elif value is not None:
        out[name] = value


def said(default, label: str, used: Callable | None = None, published: str = ''):
    """A key with the words that a page about a run has for it.

    Args:
        default: its value. label: symbol and words, such as 'η, mass of the dominant classes'.
        used: ``used(method's class, cfg)`` tells whether it counts; None: always.
        published: how published tables name another value than the default, such as 'K={}'.
    """
    return field(default=default, metadata=dict(label=label, used=used, published=published))


def under(key: str, *values) -> Callable:
    """For ``said``: the key counts where another one, or what follows from it, has such a value."""
    return lambda method, cfg: getattr(cfg, key) in values


class Checked:
    """Checks of ``semi_train_cfg``'s keys; each raises ValueError with the key and its value."""

    def check_share(self, *keys: str) -> None:
        for key in keys:
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f'semi_train_cfg.{key} must be in [0, 1], got '
                                 f'{getattr(self, key)}')

    def check_positive(self, *keys: str) -> None:
        for key in keys:
            if getattr(self, key) <= 0:
                raise ValueError(f'semi_train_cfg.{key} must be positive, got '
                                 f'{getattr(self, key)}')

    def check_choice(self, key: str, *choices) -> None:
        if getattr(self, key) not in choices:
            listed = ' or '.join(map(repr, choices)) if len(choices) < 3 else f'one of {choices}'
            raise ValueError(f'semi_train_cfg.{key} must be {listed}, got {getattr(self, key)!r}')
