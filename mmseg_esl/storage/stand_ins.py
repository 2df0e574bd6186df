"""What a checkpoint of mmengine's names beside tensors, in place of the real things.

numpy's own constructors take memory, strides and object types from whoever calls them, and what a
pickle says goes into them unchecked. These take plain numbers and text only; nothing of numpy runs
before they have been checked.
"""
from __future__ import annotations

import math
import pickle
import re

import numpy as np

_PLAIN = re.compile(r'[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU][0-9]{1,6})')
_STATISTICS = ('min', 'max', 'mean', 'current')


def refused(name: str) -> pickle.UnpicklingError:
    """The error for a call of ``name``."""
    return pickle.UnpicklingError(f'GLOBAL {name}')


class Kind:
    """``numpy.dtype`` of plain numbers or text."""

    def __init__(self, text, align=False, copy=False):
        if not (isinstance(text, str) and _PLAIN.fullmatch(text)):
            raise refused(f'numpy.dtype({text!r})')
        self.dtype = np.dtype(text)

    def __setstate__(self, state):
        plain = isinstance(state, tuple) and len(state) >= 5 and state[1] in ('<', '>', '|', '=') \
            and state[2:5] == (None, None, None)  # of nested types
        if not plain:
            raise refused(f'numpy.dtype.__setstate__({state!r})')
        if self.dtype.byteorder != '|':
            self.dtype = self.dtype.newbyteorder(state[1])


def _numbers(kind, data, shape) -> np.ndarray:
    """An array of checked bytes, copied."""
    if isinstance(kind, np.dtype) and kind.kind in 'biufcSU' and kind.subdtype is None:
        dtype = kind  # which the user allowed
    elif isinstance(kind, Kind) and hasattr(kind, 'dtype'):
        dtype = kind.dtype
    else:
        raise refused('numpy.dtype')
    fits = (isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
            and isinstance(data, bytes) and len(data) == dtype.itemsize * math.prod(shape))
    if not fits:
        raise refused('numpy.ndarray of another size')
    if not data:  # frombuffer refuses none
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype).copy()


class Array:
    """``numpy.ndarray``: an empty one, filled by its state; :func:`real` gives the array."""
    value = None

    def __init__(self, *args):
        if args:
            raise refused('numpy.ndarray called')

    def __setstate__(self, state):
        if not (isinstance(state, tuple) and len(state) == 5):
            raise refused('numpy.ndarray.__setstate__')
        _, shape, kind, fortran, data = state
        self.value = _numbers(kind, data, shape).reshape(shape, order='F' if fortran else 'C')


def reconstruct(cls, shape, code) -> Array:
    """``numpy.core.multiarray._reconstruct``."""
    if cls not in (Array, np.ndarray):
        raise refused('numpy.core.multiarray._reconstruct of another class')
    return Array()


def scalar(kind, data) -> np.generic:
    """``numpy.core.multiarray.scalar``."""
    return _numbers(kind, data, (1, ))[0]


class History:
    """mmengine's HistoryBuffer: values, counts, length."""
    state = None

    def __init__(self, *args):
        if args:
            raise refused('HistoryBuffer called')

    def __setstate__(self, state):
        self.state = state

    def real(self):
        from mmengine.logging import HistoryBuffer
        state = self.state if isinstance(self.state, dict) else {}
        values, counts = (real(state.get(f'_{name}_history')) for name in ('log', 'count'))
        length = state.get('max_length')
        if not (isinstance(values, np.ndarray) and isinstance(counts, np.ndarray)
                and isinstance(length, int) and values.shape == counts.shape):
            raise refused('HistoryBuffer without its values')
        return HistoryBuffer(values, counts, length)


def statistic(owner, name):
    """``getattr``, as protocol 2 writes HistoryBuffer's statistics, which a new one has anyway."""
    from mmengine.logging import HistoryBuffer
    if owner not in (History, HistoryBuffer) or name not in _STATISTICS:
        shown = 'HistoryBuffer' if owner is History else 'ndarray' if owner is Array else \
            getattr(owner, '__qualname__', type(owner).__name__)
        raise refused(f'getattr({shown},{name})')
    return getattr(HistoryBuffer, name)


def no_bytes() -> bytes:
    """``bytes()``, as protocol 2 writes the content of an empty array."""
    return b''


def real(value, done: dict | None = None):
    """Replace the stand-ins in a loaded checkpoint by what they stand for.

    Containers are changed in place, so that an OrderedDict keeps its attributes; each is walked
    once, however often it is named.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, Array):
        if value.value is None:
            raise refused('numpy.ndarray without content')
        return value.value
    if isinstance(value, Kind):
        return value.dtype
    if isinstance(value, History):
        found = value.real()
    elif type(value) is tuple:
        found = tuple(real(item, done) for item in value)
    else:
        found = value
    done[id(value)] = value, found  # the value too, so that no other gets its id
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = real(item, done)
    elif isinstance(value, list):
        value[:] = [real(item, done) for item in value]
    elif type(value).__name__ == 'HistoryBuffer':  # which the user allowed
        real(vars(value), done)
    return found


def named() -> dict:
    """``{name in a pickle: what serves in its place}``."""
    out = {'numpy.ndarray': Array, 'numpy.dtype': Kind, 'builtins.getattr': statistic,
           'builtins.bytes': no_bytes,
           'mmengine.logging.history_buffer.HistoryBuffer': History}
    for package in ('numpy.core', 'numpy._core'):  # numpy 1 and 2 write different names
        out[f'{package}.multiarray._reconstruct'] = reconstruct
        out[f'{package}.multiarray.scalar'] = scalar
    return out
