"""Changes of intensity against PIL, which the release works with."""
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from mmseg_esl.functional import intensity


def images():
    """Ramps, noise, dark images of few values, few pixels of many, one colour, tiny ones."""
    rng = np.random.RandomState(0)
    ramp = np.stack([np.tile(np.arange(256), (40, 1)), np.tile(np.arange(256)[::-1], (40, 1)),
                     np.tile(np.arange(256) // 2, (40, 1))], axis=2)
    smooth = np.kron(rng.randint(0, 256, (6, 7, 3)), np.ones((9, 8, 1)))
    dark = rng.randint(20, 60, (33, 47, 3))
    dark[..., 1] = 35
    return {'ramp': ramp, 'noise': rng.randint(0, 256, (61, 83, 3)), 'smooth': smooth,
            'dark': dark, 'one colour': np.full((9, 9, 3), (200, 10, 77)),
            'tiny': rng.randint(0, 256, (2, 3, 3)), 'a row': rng.randint(0, 256, (1, 9, 3)),
            'few pixels': rng.randint(0, 256, (17, 18, 3)),
            'nearly black': rng.randint(0, (2, 3, 4), (9, 11, 3))}


IMAGES = {name: x.astype(np.uint8) for name, x in images().items()}


def turned(image, share):
    h, s, v = image.convert('HSV').split()
    h = Image.fromarray(((np.array(h).astype(int) + int(share * 255)) % 256).astype(np.uint8))
    return Image.merge('HSV', (h, s, v)).convert('RGB')


def enhanced(kind):
    return lambda image, factor: getattr(ImageEnhance, kind)(image).enhance(factor)


PIL = {
    'identity': (lambda image: image, [()]),
    'autocontrast': (ImageOps.autocontrast, [()]), 'equalize': (ImageOps.equalize, [()]),
    'posterize': (ImageOps.posterize, [(bits,) for bits in range(1, 9)]),
    'solarize': (ImageOps.solarize, [(1,), (100,), (128,), (255,)]),
    'brightness': (enhanced('Brightness'), [(0.05,), (0.31,), (0.5,), (0.95,)]),
    'contrast': (enhanced('Contrast'), [(0.05,), (0.31,), (0.5,), (0.95,)]),
    'colour': (enhanced('Color'), [(0.05,), (0.31,), (0.5,), (0.95,)]),
    'sharpness': (enhanced('Sharpness'), [(0.05,), (0.31,), (0.5,), (0.95,)]),
    'hue': (turned, [(-0.5,), (-0.2,), (0.0,), (0.001,), (0.3,), (0.49,)])}


def tensor(array, dtype=torch.float32):
    return torch.from_numpy(array.copy()).permute(2, 0, 1).to(dtype)


@pytest.mark.parametrize('which', IMAGES)
@pytest.mark.parametrize('name, arguments', [(n, a) for n, (_, all_) in PIL.items() for a in all_])
def test_as_pil(name, arguments, which):
    want = np.array(PIL[name][0](Image.fromarray(IMAGES[which]), *arguments)).astype(int)
    before = tensor(IMAGES[which])
    found = getattr(intensity, name)(before, *arguments)
    assert torch.equal(before, tensor(IMAGES[which])) and found.dtype == torch.float32
    found = found.permute(1, 2, 0).numpy()
    assert (found == found.round()).all() and found.min() >= 0 and found.max() <= 255
    assert (found.astype(int) == want).all()


@pytest.mark.parametrize('sigma', [0.1, 0.7, 2.0])
@pytest.mark.parametrize('which', ['noise', 'tiny'])
def test_blur_against_a_loop(sigma, which):
    image, radius = IMAGES[which][:14, :11].astype(np.float64), math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    height, width, _ = image.shape
    want = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            for i, a in enumerate(weights):
                for j, b in enumerate(weights):
                    row = min(max(y + i - radius, 0), height - 1)
                    column = min(max(x + j - radius, 0), width - 1)
                    want[y, x] += a * b * image[row, column]
    found = intensity.blur(tensor(image.astype(np.uint8)), sigma).permute(1, 2, 0).numpy()
    assert np.abs(found - want).max() <= 0.5 + 1e-3


def test_blur_is_near_pils():
    image = Image.fromarray(IMAGES['smooth'])
    found = intensity.blur(tensor(IMAGES['smooth']), 1.5).permute(1, 2, 0).numpy()
    off = found - np.array(image.filter(ImageFilter.GaussianBlur(1.5)))
    assert np.abs(off).mean() < 2 and np.abs(found - IMAGES['smooth']).mean() > 5


def test_float64_gives_the_same():
    for name, (_, arguments) in PIL.items():
        one, two = (getattr(intensity, name)(tensor(IMAGES['noise'], dtype), *arguments[0])
                    for dtype in (torch.float32, torch.float64))
        assert two.dtype == torch.float64 and torch.equal(one.double(), two), name


def test_an_edge_stays_where_it_is():
    """Left half black, right half coloured: no operation moves the border."""
    image = torch.zeros(3, 20, 20)
    image[:, :, 10:] = torch.tensor([200.0, 120.0, 60.0])[:, None, None]
    for name, (_, arguments) in PIL.items():
        out = getattr(intensity, name)(image, *arguments[0])
        inner = (slice(None), slice(None), slice(1, 8)), (slice(None), slice(None), slice(12, 19))
        for part in inner:
            assert (out[part] == out[part][:, :1, :1]).all(), name
