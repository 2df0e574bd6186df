"""Counting what a process sends: every collective of torch.distributed, and what it is for."""
from __future__ import annotations

import sys
from collections import defaultdict

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

# By the innermost frame of this list, as (end of the file's name, function or None for any).
PURPOSES = {
    ('models/part_memory.py', 'stage'): 'parts',
    ('functional/contrast.py', None): 'parts',  # the anchors of each class, its divisor
    ('models/supervised.py', None): 'loss normalisers',
    ('semi/segmentor.py', 'after_optimizer_step'): 'batch-norm buffers',
    ('hooks/finite_guard.py', None): 'finite flag',
    ('engine/interrupt.py', None): 'interrupt flag',
    ('torch/autograd/graph.py', None): 'gradients',  # DDP's buckets, from within the backward
    ('hooks/logger_hook.py', None): 'logging',
}


class Collectives(TorchDispatchMode):
    """Sees the collectives of Python and of C++ (DDP's reducer) alike, while ``counting``.

    Attributes:
        found: purpose -> [calls, bytes that this rank gives (not what it receives), and bytes
            that it sends if the collective goes round a ring].
    """

    def __init__(self):
        super().__init__()
        self.counting = False
        self.found = defaultdict(lambda: [0, 0, 0])

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if self.counting and function.namespace == 'c10d':
            self._count(function.__name__.split('.')[0], args)
        return function(*args, **(kwargs or {}))

    def _count(self, name: str, args) -> None:
        world = torch.distributed.get_world_size()
        gathers = name.startswith('allgather')
        # of a gather the first argument is what arrives, the second what is given
        given = [x for x in tree_flatten(args[1] if gathers else args[0])[0]
                 if isinstance(x, torch.Tensor)]
        size = sum(x.numel() * x.element_size() for x in given)
        turns = world - 1 if gathers else 2 * (world - 1) / world
        entry = self.found[_purpose()]
        entry[0] += 1
        entry[1] += size
        entry[2] += round(size * turns)


def _purpose() -> str:
    frame, where = sys._getframe(2), ''
    while frame is not None:
        file, function = frame.f_code.co_filename.replace('\\', '/'), frame.f_code.co_name
        if not where and 'mmengine/dist' not in file and 'torch/distributed' not in file:
            where = f'{file.rsplit("/", 1)[-1]}:{function}'
        for (end, name), purpose in PURPOSES.items():
            if file.endswith(end) and name in (None, function):
                # a divisor that is asked for by the contrast belongs to the parts
                if purpose == 'loss normalisers' and _called_by(frame, 'functional/contrast.py'):
                    return 'parts'
                return purpose
        frame = frame.f_back
    return f'other ({where})'


def _called_by(frame, end: str) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith(end):
            return True
        frame = frame.f_back
    return False
