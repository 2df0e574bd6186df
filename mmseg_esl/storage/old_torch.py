"""Restricted unpickling for torch before 2.6, whose own knows no allow-list."""
from __future__ import annotations

import pickle
from collections import OrderedDict
from types import SimpleNamespace

from .stand_ins import Array, History, Kind, named, refused


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise refused(f'encode({encoding})')
    return text.encode(encoding)


def restricted_pickle():
    """A stand-in for the pickle module: torch's own safe names, and those of ``stand_ins``.

    Only what was named so is called, and a state goes only to what a checkpoint has: pickle itself
    would set attributes of functions and of classes.
    """
    import torch
    from torch import _weights_only_unpickler

    known = dict(_weights_only_unpickler._get_allowed_globals(), **named())
    known['_codecs.encode'] = _latin1  # how protocol 2 writes the bytes of a numpy array
    callables = [value for value in known.values() if callable(value)]

    class Unpickler(pickle._Unpickler):  # the one in Python, whose steps can be told apart
        dispatch = dict(pickle._Unpickler.dispatch)

        def find_class(self, module, name):
            # protocol 2 has the names of Python 2: a plain 'getattr' is __builtin__.getattr
            full = f'{module.replace("__builtin__", "builtins")}.{name}'
            if full not in known:
                raise refused(full)
            return known[full]

        def check(self, called) -> None:
            if not any(called is value for value in callables):
                raise refused(f'call of {called!r}')

        def load_reduce(self):
            self.check(self.stack[-2])
            super().load_reduce()

        def load_newobj(self):
            self.check(self.stack[-2])
            super().load_newobj()

        def load_build(self):
            state, value = self.stack.pop(), self.stack[-1]
            if type(value) is torch.Tensor:
                value.set_(*state)
            elif type(value) is OrderedDict:
                vars(value).update(state)
            elif type(value) in (torch.nn.Parameter, Array, Kind, History):
                value.__setstate__(state)
            else:
                raise refused(f'state of {value!r}')

        def load_unknown(self):
            raise refused('an operation that no checkpoint needs')

        def load_append(self):
            self.within(list, self.stack[-2])
            super().load_append()

        def load_appends(self):
            self.within(list, self.metastack[-1][-1])
            super().load_appends()

        def load_setitem(self):
            self.within(dict, self.stack[-3])
            super().load_setitem()

        def load_setitems(self):
            self.within(dict, self.metastack[-1][-1])
            super().load_setitems()

        def within(self, kind, value) -> None:
            if not isinstance(value, kind):
                raise refused(f'items of {value!r}')

        for _name in ('REDUCE', 'NEWOBJ', 'BUILD', 'APPEND', 'APPENDS', 'SETITEM', 'SETITEMS'):
            dispatch[getattr(pickle, _name)[0]] = locals()[f'load_{_name.lower()}']
        for _name in ('INST', 'OBJ', 'NEWOBJ_EX', 'EXT1', 'EXT2', 'EXT4', 'ADDITEMS',
                      'FROZENSET', 'NEXT_BUFFER', 'READONLY_BUFFER'):
            dispatch[getattr(pickle, _name)[0]] = load_unknown

    def restricted_load(file, **kwargs):
        return Unpickler(file, **kwargs).load()

    return SimpleNamespace(__name__='restricted_pickle', Unpickler=Unpickler, load=restricted_load,
                           UnpicklingError=pickle.UnpicklingError)
