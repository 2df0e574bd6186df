"""Random numbers that are the CPU's, whatever device asks for them."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

NEW = {torch.rand, torch.randn, torch.randint, torch.randperm}
LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
OF_VALUES = {torch.bernoulli, torch.multinomial, Tensor.bernoulli, Tensor.multinomial}
IN_PLACE = {Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_,
            Tensor.exponential_}


class SameDraws(TorchFunctionMode):
    """Two devices that start from one seed of the CPU's generator draw the same numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in NEW:
            device, _ = kwargs.pop('device', None), kwargs.pop('generator', None)
            return func(*args, **kwargs).to(device or 'cpu')
        if func in LIKE:
            dtype = kwargs.get('dtype') or args[0].dtype
            return LIKE[func](args[0].shape, dtype=dtype).to(args[0].device)
        if func in OF_VALUES:
            kwargs.pop('generator', None)
            return func(args[0].cpu(), *args[1:], **kwargs).to(args[0].device)
        if func in IN_PLACE:
            kwargs.pop('generator', None)
            drawn = func(torch.empty(args[0].shape, dtype=args[0].dtype), *args[1:], **kwargs)
            return args[0].copy_(drawn)
        if func in (F.dropout, F.dropout2d):
            return self._drop(func, *args, **kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _drop(func, x, p=0.5, training=True, inplace=False):
        if not training:
            return x
        shape = x.shape if func is F.dropout else (*x.shape[:2], *(1 for _ in x.shape[2:]))
        return x * (torch.rand(shape) >= p).to(x.device) / (1 - p)
