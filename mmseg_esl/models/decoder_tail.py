"""The last layers of a decoder, run by themselves or given other features than theirs."""
from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator

import torch
from torch import Tensor, nn

from .probe import on_empty_image
from .running import running
from .segmentors import main_head


@dataclass(frozen=True)
class DecoderTail:
    """From the input of one module of the head to the logits, in networks of one architecture.

    Args:
        name: of the module within the head: the classifier ``conv_seg``, or one whose output is
            classified.
    """
    name: str

    @classmethod
    def of(cls, net: nn.Module) -> DecoderTail:
        """The module of the head that is run last before the classifier, if it has one input.

        Found by running the network once on an empty image; the classifier alone where what it is
        given comes from no single module. Of mmseg's DeepLabV3+ it is the two convolutions behind
        the concatenation.

        Raises:
            ValueError: the head has no ``conv_seg``.
        """
        head, ran, classified = main_head(net), [], []
        if not isinstance(getattr(head, 'conv_seg', None), nn.Module):
            raise ValueError(f'{type(head).__name__} has no conv_seg, so its last layers cannot be '
                             'run by themselves: use another decode_head')
        dropout = getattr(head, 'dropout', None)
        handles = [child.register_forward_hook(
            lambda _, args, out, name=name: ran.append((name, args, out)))
            for name, child in head.named_children()]
        handles.append((head.conv_seg if dropout is None else dropout).register_forward_pre_hook(
            lambda _, args: classified.append(args[0])))
        try:
            with running(net, 'eval'), torch.no_grad():
                on_empty_image(net, lambda image: net(image, mode='tensor'))
        finally:
            for handle in handles:
                handle.remove()
        names = [name for name, args, out in ran if len(args) == 1
                 and isinstance(args[0], Tensor) and out is classified[-1]]
        return cls(names[0] if names else 'conv_seg')

    def __call__(self, net: nn.Module, features: Tensor) -> Tensor:
        """``(B, D, h, w)`` -> logits ``(B, C, h, w)``, without the classifier's dropout."""
        head = main_head(net)
        if self.name != 'conv_seg':
            features = getattr(head, self.name)(features)
        return head.conv_seg(features)

    @contextmanager
    def given(self, net: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Within the block, a network's tail is given ``change(features)``, not the features."""
        handle = getattr(main_head(net), self.name).register_forward_pre_hook(
            lambda _, args: (change(args[0]), *args[1:]))
        try:
            yield
        finally:
            handle.remove()
