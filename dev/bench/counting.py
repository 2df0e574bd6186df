"""Operators that PyTorch dispatches, and those among them that wait for the device.

On an accelerator a data-dependent shape or a value read on the host stalls the queue of kernels.
The operators that do so are dispatched on any device, so they can be counted without one.
"""
from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_esl.functional import contrast

FORBIDDEN = {
    '_local_scalar_dense',  # .item(), bool(), int(), tolist(), slicing by a tensor
    'nonzero', 'nonzero_numpy', 'argwhere', 'masked_select', 'is_nonzero', 'equal',
    '_unique', '_unique2', 'unique_dim', 'unique_consecutive', 'unique_dim_consecutive',
    'bincount', 'histc', 'repeat_interleave'}
INDEXING = {'index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index_put'}


class FromHost(TorchFunctionMode):
    """Counts numbers that are brought from the host in a way that waits: for one element, where
    several are filled on the device, and lists."""

    def __init__(self, waits: Counter):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.__setitem__ and not isinstance(args[2], Tensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if len(index) == args[0].dim() and all(type(i) is int for i in index):
                self.waits['a number written to one element'] += 1
        if func is Tensor.new_tensor or (func in (torch.tensor, torch.as_tensor)
                                         and kwargs.get('device') is not None):
            self.waits['a list brought to the device'] += 1
        return func(*args, **kwargs)


class SyncCounter(TorchDispatchMode):
    """Counts every operator, and by name those that would wait for the device.

    What is only done where reading is free is not done within it.
    """

    def __init__(self):
        super().__init__()
        self.all, self.waits = 0, Counter()
        self._from_host = FromHost(self.waits)

    def __enter__(self):
        self._asked, contrast.waits_for_reads = contrast.waits_for_reads, lambda device: True
        self._from_host.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        contrast.waits_for_reads = self._asked
        super().__exit__(*error)
        self._from_host.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.all += 1
        name = func.overloadpacket.__name__
        if name in FORBIDDEN:
            self.waits[name] += 1
        if name in INDEXING and any(
                i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            self.waits[f'{name} with a mask'] += 1
        return func(*args, **(kwargs or {}))


def count_step(model, batch) -> dict:
    """Operations and waits from the teacher's forward to the end of backward, and of the EMA."""
    data = model.data_preprocessor(batch, training=True)
    with SyncCounter() as step:
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
    with SyncCounter() as after:
        model.after_optimizer_step(10 ** 6)
    model.zero_grad()
    return dict(operations=step.all, waits=dict(step.waits), ema_operations=after.all,
                ema_waits=dict(after.waits))
