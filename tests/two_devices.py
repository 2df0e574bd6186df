"""What a GPU would be told apart, on a CPU: tensors made on the host and tensors on the device."""
from __future__ import annotations

from torch import Tensor
from torch.overrides import TorchFunctionMode


class TwoDevices(TorchFunctionMode):
    """Collects calls that take tensors of both, which a GPU refuses or waits for.

    A tensor is the host's if it was made within the block by a call that names no device, or from
    such tensors alone; ``to(device)`` brings it over. Host tensors of no dimension go with any.
    """

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        host = [tensor for tensor in given if getattr(tensor, 'on_host', False)]
        out = func(*args, **kwargs)
        if func is Tensor.to and ('device' in kwargs or not _is_type(args[1:], kwargs)):
            return out.view_as(out)  # another object, which has no mark
        if len(host) < len(given) and any(tensor.dim() for tensor in host):
            self.found.append(getattr(func, '__name__', str(func)))
        elif len(host) == len(given) and (host or kwargs.get('device') is None):
            for tensor in _tensors(out):
                tensor.on_host = True
        return out


def _tensors(tree):
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for each in tree:
            yield from _tensors(each)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


def _is_type(args, kwargs) -> bool:
    """Whether ``to`` was asked for a dtype, not for a place."""
    return 'dtype' in kwargs or any(type(each).__name__ in ('dtype', 'Tensor') for each in args)
