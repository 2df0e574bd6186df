"""Changes of brightness and colour that move no pixel, as PIL makes them, on any device.

An image is ``(3, H, W)`` float, whole numbers in [0, 255]; so is every result. PIL's rounding is
kept, so that results are those of a loader that works on PIL images; the blur alone is a true
Gaussian where PIL approximates one. Strengths are plain numbers, drawn by the caller on the host.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (19595, 38470, 7471)  # shares of R, G, B in 2 ** 16, as in PIL


def identity(image: Tensor) -> Tensor:
    return image


def autocontrast(image: Tensor) -> Tensor:
    """Stretch each channel over [0, 255]; one of a single value stays."""
    flat = image.flatten(1).double()
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    levels = torch.arange(256, device=image.device, dtype=torch.float64)
    scale = levels[-1] / (high - low).clamp(min=1)  # '255 / x' would be 255 times 1 / x, rounded
    table = (levels * scale - low * scale).trunc()  # of what lies between low and high
    return _look_up(image, torch.where(high > low, table, levels))


def equalize(image: Tensor) -> Tensor:
    """Spread each channel's values evenly over [0, 255]; one of too few pixels stays."""
    index = image.flatten(1).long()
    counts = index.new_zeros(3, 256).scatter_add_(1, index, torch.ones_like(index))
    last = counts.gather(1, index.amax(dim=1, keepdim=True))
    step = (index.shape[1] - last) // 255
    before = counts.cumsum(dim=1) - counts
    table = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return _look_up(image, torch.where(step > 0, table, torch.arange(256, device=image.device)))


def posterize(image: Tensor, bits: int) -> Tensor:
    """Keep each value's first ``bits`` of 8 bits."""
    return _look_up(image, torch.arange(256, device=image.device) & (255 << (8 - bits) & 255))


def solarize(image: Tensor, threshold: int) -> Tensor:
    """Invert values from ``threshold`` on."""
    return torch.where(image < threshold, image, 255 - image)


def brightness(image: Tensor, factor: float) -> Tensor:
    """Towards black: 0 is black, 1 the image."""
    return _blend(torch.zeros_like(image), image, factor)


def contrast(image: Tensor, factor: float) -> Tensor:
    """Towards the mean grey."""
    mean = (grey(image).double().mean() + 0.5).floor().to(image.dtype)
    return _blend(mean.expand_as(image), image, factor)


def colour(image: Tensor, factor: float) -> Tensor:
    """Towards the grey image."""
    return _blend(grey(image).expand_as(image), image, factor)


def sharpness(image: Tensor, factor: float) -> Tensor:
    """Towards a smoothed image; the outermost pixels stay."""
    smooth = image.clone()
    height, width = image.shape[1:]
    near = sum(image[:, y:height - 2 + y, x:width - 2 + x] for y in range(3) for x in range(3))
    smooth[:, 1:-1, 1:-1] = ((near + 4 * image[:, 1:-1, 1:-1]) / 13 + 0.5).floor()
    return _blend(smooth, image, factor)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian of standard deviation ``sigma`` > 0 in pixels, cut at 3 sigma; edges repeat."""
    radius = math.ceil(3 * sigma)
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    for dim in (1, 2):  # no convolution: autocast would take it to half precision
        pad = (0, 0, radius, radius) if dim == 1 else (radius, radius, 0, 0)
        wide, size = F.pad(image[None], pad, mode='replicate')[0], image.shape[dim]
        image = sum(w / sum(weights) * wide.narrow(dim, i, size) for i, w in enumerate(weights))
    return image.round()


def hue(image: Tensor, share: float) -> Tensor:
    """Turn the hue by a share of the circle in [-0.5, 0.5], in 8-bit HSV."""
    turn, saturation, value = _hsv(image.float())  # float32 where PIL has it, doubles where not
    turn = (turn + int(share * 255)) % 256 * 6 / 255
    saturation = saturation / 255
    sector, part = turn.floor(), turn - turn.floor()
    p = _rounded(value * (1 - saturation))
    q = _rounded(value * (1 - saturation * part))
    t = _rounded(value * (1 - saturation * (1 - part)))
    wheel = torch.stack([value, q, p, p, t, value])  # red in each of six sectors
    out = [wheel.gather(0, (sector.long() + shift)[None] % 6)[0] for shift in (0, 4, 2)]
    return torch.stack(out).to(image.dtype)


def grey(image: Tensor) -> Tensor:
    """``(H, W)``, PIL's 'L' of it."""
    return (sum(w * c for w, c in zip(GREY, image)) + 2 ** 15).div(2 ** 16).floor()


def _hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value ``(H, W)`` of a float32 image, in 8 bits each."""
    red, green, _ = image
    value, low = image.amax(dim=0), image.amin(dim=0)
    span = value - low
    r, g, b = (((value - channel) / span.clamp(min=1)).double() for channel in image)
    turn = torch.where(red == value, b - g, torch.where(green == value, 2 + r - b, 4 + g - r))
    turn = ((turn.float().double() / 6 + 1) % 1).float()
    hue = (turn.double() * 255).floor()
    return hue, ((span / value.clamp(min=1)).double() * 255).floor(), value.double()


def _blend(start: Tensor, end: Tensor, factor: float) -> Tensor:
    return (start + factor * (end - start)).trunc()


def _look_up(image: Tensor, table: Tensor) -> Tensor:
    """``table``: ``(256,)`` or ``(3, 256)``, new value of each value."""
    table = table.expand(3, 256).to(image.dtype)
    return table.gather(1, image.flatten(1).long()).view_as(image)


def _rounded(x: Tensor) -> Tensor:
    return (x + 0.5).floor()
