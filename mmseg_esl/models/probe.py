"""An image for a network that nobody has trained yet: its channels and its size."""
from __future__ import annotations

from typing import Callable

from torch import Tensor, nn

SMALL = (128, 128)  # a forward of it is quick


def in_channels(net: nn.Module) -> int:
    """Channels of the images that a segmentor takes: those of its backbone's first convolution."""
    backbone = getattr(net, 'backbone', net)
    convs = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    first = next(convs, None)
    return 3 if first is None else first.in_channels


def training_size(net: nn.Module) -> tuple[int, int] | None:
    """(H, W) that the data preprocessor gives every batch in training, None if it varies."""
    size = getattr(net.data_preprocessor, 'size', None)
    return (size, size) if isinstance(size, int) else size and tuple(size)


def sizes(net: nn.Module, small: tuple[int, int] = SMALL) -> list[tuple[int, int]]:
    """What to try a network with: a small image, then one as training has it.

    Some take no other size (BEiT, MAE), or none so small (LRASPP).
    """
    size = training_size(net)
    return [small] if size in (None, small) else [small, size]


def on_empty_image(net: nn.Module, run: Callable[[Tensor], object]):
    """What ``run`` gives for an empty ``(1, D, H, W)`` image of a size that the network takes.

    Raises:
        Exception: whatever ``run`` raises for an image of training's size.
    """
    for size in sizes(net):
        try:
            return run(next(net.parameters()).new_zeros(1, in_channels(net), *size))
        except Exception as caught:  # whatever a network says of a size
            error = caught
    raise error
