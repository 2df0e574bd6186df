"""Weights that hold NaN or infinity are refused when they are loaded: they predict in silence."""
from __future__ import annotations

from .errors import Misfit, Unreadable
from .portable import nonfinite_tensors

_SHOWN = 3


def refuse_nan(content, source) -> None:
    """Refuse a checkpoint with a NaN in its weights or its optimiser's state.

    Infinities may be meant, such as in an attention's mask: see :func:`refuse_infinite`.

    Args:
        content: what the file holds; of a checkpoint only these two parts are looked at.
        source: the file, for the message.

    Raises:
        Unreadable: names the first tensors.
    """
    if not isinstance(content, dict):
        return
    parts = [content[key] for key in ('state_dict', 'optimizer') if key in content] or [content]
    bad = [place for part in parts
           for place in nonfinite_tensors(part, '', lambda value: ~value.isnan())]
    if bad:
        raise Unreadable(_message(f'checkpoint {source}', bad, 'NaN'))


def refuse_infinite(given: dict, wanted: dict, source: str, meant=()) -> None:
    """Refuse weights with a NaN or an infinity, but for tensors that hold infinities in the model.

    Args:
        given: the checkpoint's state dict, under the model's keys. wanted: the model's.
        source: where the checkpoint comes from, for the message.
        meant: parts of the names of tensors that may be infinite.

    Raises:
        Misfit: names the first tensors.
    """
    bad = [place for name, value in given.items() for place in nonfinite_tensors(value, name)
           if name in wanted and not any(part in name for part in meant)
           and not any(nonfinite_tensors(wanted[name]))]
    if bad:
        raise Misfit(_message(source, bad, 'NaN or infinity'))


def _message(source: str, bad: list, what: str) -> str:
    more = f' and {len(bad) - _SHOWN} more' if len(bad) > _SHOWN else ''
    return (f'{source} is of a training that diverged: {what} in '
            f'{", ".join(place.strip("[]") for place in bad[:_SHOWN])}{more}. Take an earlier one')
