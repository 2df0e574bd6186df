"""Roles: which networks a method has, and what each of them is for."""
from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Role:
    """One network of a method. Engine, checkpoints and tools read roles; they spell no name.

    Args:
        follows: the network of which this one is the moving average; None: it is trained.
        plain: it is a whole segmentor: evaluated, exported, filled by a plain checkpoint.
    """
    follows: str | None = None
    plain: bool = True


# Of checkpoints that do not say which networks they hold: release 0.1.0 had these two.
UNSAID = {'student': Role(), 'teacher': Role(follows='student')}


def to_meta(roles: dict[str, Role], predicts: str) -> dict:
    """As plain data, for a checkpoint's ``meta['networks']``."""
    return dict(roles={name: asdict(role) for name, role in roles.items()}, predicts=predicts)


def from_meta(meta: dict | None) -> tuple[dict[str, Role], str]:
    """(roles, the network that predicts) of a checkpoint's ``meta``; of 0.1.0's if it is silent."""
    said = (meta or {}).get('networks')
    if not said:
        return UNSAID, first_average(UNSAID)
    return {name: Role(**role) for name, role in said['roles'].items()}, said['predicts']


def first_average(roles: dict[str, Role]) -> str:
    """The first whole segmentor that is an average, else the first network: what predicts."""
    averages = (name for name, role in roles.items() if role.follows and role.plain)
    return next(averages, next(iter(roles)))
