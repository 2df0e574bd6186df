"""Checkpoints that ``torch.load(weights_only=True)`` reads without any allow-list.

mmengine puts its HistoryBuffer and numpy's types into a checkpoint, which plain safe loading
refuses. Here they become numbers, text, tensors and containers, and the histories come back.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch

_HISTORY = ('log_history', 'count_history', 'max_length')


def portable(value, where: str = 'checkpoint'):
    """Copy a nested value in types that every torch loads with ``weights_only=True``.

    Args:
        value: nested containers; tensors are passed on, numpy arrays become lists.
        where: how to call the value in an error.

    Raises:
        TypeError: a type without a plain form; its place is named.
    """
    if value is None or isinstance(value, (str, bool, int, float, torch.Tensor, torch.Size)):
        # a subclass, such as numpy.float64 or an enumeration, is another global
        return _base(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return portable(value.tolist(), where)
    if isinstance(value, dict):
        items = ((_base(key), portable(item, f'{where}[{key!r}]')) for key, item in value.items())
        if not isinstance(value, OrderedDict):
            return dict(items)
        copied = OrderedDict(items)
        vars(copied).update(vars(value))  # a state dict's versions
        return copied
    if isinstance(value, (tuple, list)):
        kind = list if isinstance(value, list) else tuple
        return kind(portable(item, f'{where}[{i}]') for i, item in enumerate(value))
    raise TypeError(
        f'{where} is a {type(value).__module__}.{type(value).__qualname__}, which safe loading '
        'would refuse: let whoever puts it into the checkpoint store numbers, text, tensors and '
        'dicts, lists or tuples of them')


def _base(value):
    """The value as its plain type, where it is of a subclass of one."""
    for kind in (bool, int, float, str):  # bool before int, whose subclass it is
        if isinstance(value, kind):
            return kind(value)
    return value


def pack_histories(message_hub: dict) -> None:
    """Replace every HistoryBuffer of a message hub's state by tensors, in place.

    Values that are not finite (the loss of a step that was skipped) are left out: the log of a
    bad step is no state of the training, and no checkpoint holds such a value.
    """
    scalars = message_hub['log_scalars']
    for key, buffer in scalars.items():
        values, counts = buffer.data
        keep = np.isfinite(values)
        scalars[key] = dict(log_history=torch.from_numpy(values[keep].copy()),
                            count_history=torch.from_numpy(counts[keep].copy()),
                            max_length=buffer.max_length)


def unpack_histories(message_hub: dict) -> None:
    """Undo :func:`pack_histories`, in place; HistoryBuffers are left as they are."""
    from mmengine.logging import HistoryBuffer

    scalars = message_hub['log_scalars']
    for key, packed in scalars.items():
        if isinstance(packed, dict) and set(packed) == set(_HISTORY):
            values, counts = (packed[name].cpu().numpy() for name in _HISTORY[:2])
            scalars[key] = HistoryBuffer(values, counts, packed['max_length'])


def nonfinite_tensors(value, where: str = 'checkpoint', fine=torch.isfinite):
    """Yield the places of the tensors that hold a NaN or an infinity.

    Args:
        value: nested containers. where: how to call it.
        fine: tells which values of a tensor are allowed.
    """
    if isinstance(value, torch.Tensor):
        numbers = value.is_floating_point() or value.is_complex()
        if numbers and not bool(fine(value).all()):
            yield where
        return
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (tuple, list)):
        items = enumerate(value)
    for key, item in items:
        yield from nonfinite_tensors(item, f'{where}[{key!r}]', fine)
