"""Nested configs as one level of dotted keys; standard library only."""
from __future__ import annotations


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
