"""Keys of a plain segmentor's state dict <-> keys of a method's.

A method's state dict holds a plain segmentor's once for each plain role, as ``student.*``,
``teacher.*`` and so on, beside what else it trains or remembers. Everything here works on plain
dictionaries; values are passed on, never copied, and no input is changed.
"""
from __future__ import annotations

from collections import OrderedDict

from ..commands import command
from .errors import Misfit
from .fit import strip_module


def networks_in(state_dict: dict) -> list[str]:
    """Names of the segmentors that a method's state dict holds; none in a plain segmentor's."""
    keys = [key.split('.') for key in strip_module(state_dict)]
    return list(dict.fromkeys(key[0] for key in keys if len(key) > 2 and key[1] == 'backbone'
                              and key[0] != 'backbone'))


def to_method(state_dict: dict, roles: dict) -> dict:
    """Give a plain segmentor's tensors to every plain network, or what a method saved as it is.

    A network that is an average and that the dictionary lacks starts as what it follows.

    Args:
        state_dict: of a plain segmentor or of a method.
        roles: ``{name: Role}`` of the method that is to be filled.

    Returns:
        OrderedDict under the method's keys; networks that were filled alike name the same tensors.

    Raises:
        Misfit: the dictionary is empty, or lacks a trained segmentor that another method has.
    """
    state_dict = strip_module(state_dict)
    if not state_dict:
        raise Misfit('the state dict is empty: is the file a checkpoint with a state_dict?')
    there = networks_in(state_dict)
    if not there:
        return OrderedDict((f'{name}.{key}', value) for name, role in roles.items() if role.plain
                           for key, value in state_dict.items())
    out = OrderedDict(state_dict)
    for name, role in roles.items():
        if role.plain and name not in there:
            if role.follows not in there:
                raise Misfit(
                    f"the checkpoint is another method's: it holds {', '.join(there)} and no "
                    f'{name}. Export one of them ({command("export")}) and give that as '
                    'load_from: it fills every network')
            out.update((f'{name}.{key}', value)
                       for key, value in to_plain(state_dict, role.follows).items())
    return out


def to_plain(state_dict: dict, name: str) -> dict:
    """Take one network out of a method, under the keys of a plain segmentor.

    Returns:
        OrderedDict that loads with ``strict=True`` into the segmentor that the method was given.

    Raises:
        ValueError: there is no such network (lists those there are), or the dictionary is a plain
            segmentor's.
    """
    there = networks_in(state_dict)
    if not there:
        raise ValueError("this is a plain segmentor's state dict already: use it as it is")
    if name not in there:
        raise unknown_network(name, there)
    prefix = f'{name}.'
    return OrderedDict((key[len(prefix):], value)
                       for key, value in strip_module(state_dict).items()
                       if key.startswith(prefix))


def unknown_network(name: str, there) -> ValueError:
    """The error that lists the networks there are."""
    return ValueError(f"there is no network '{name}': choose {' or '.join(there)}")
