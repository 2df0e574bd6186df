"""Which networks a checkpoint holds, and one of them by itself."""
from __future__ import annotations

from ..semi.roles import Role, first_average, from_meta
from ..storage.keys import networks_in, to_plain, unknown_network


def networks_of(checkpoint: dict) -> tuple[dict[str, Role], str | None]:
    """(Roles of the segmentors that a checkpoint holds, the one that predicts).

    By its ``meta['networks']``; by its keys where it does not say (release 0.1.0, a bare state
    dict). ({}, None) of a plain segmentor's.
    """
    roles, predicts = from_meta(checkpoint.get('meta'))
    there = networks_in(checkpoint.get('state_dict', checkpoint))
    found = {name: roles.get(name, Role()) for name in there}
    found = {name: role for name, role in found.items() if role.plain}
    if found and predicts not in found:  # of several networks together, say
        predicts = first_average(found)
    return found, predicts if found else None


def one_network(checkpoint: dict, name: str | None = None) -> tuple[str, dict]:
    """(name, plain state dict) of one network of a method's checkpoint.

    Args:
        name: of the network; None: the one that predicts.

    Raises:
        ValueError: there is no such network (lists those there are), or the checkpoint is a plain
            segmentor's.
    """
    there, predicts = networks_of(checkpoint)
    name = name or predicts
    if there and name not in there:
        raise unknown_network(name, there)
    return name, to_plain(checkpoint.get('state_dict', checkpoint), name)
