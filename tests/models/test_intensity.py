"""AugSeg's strong view: what is drawn, and that it is what is done."""
from collections import Counter

import pytest
import torch
from mmseg.registry import MODELS

import mmseg_esl.register  # noqa: F401
from mmseg_esl.functional import intensity
from mmseg_esl.models.intensity import OPERATIONS, RandomIntensity


def test_how_many_and_which():
    plans = RandomIntensity().draw(6000, torch.Generator().manual_seed(0))
    counts = Counter(len(plan) for plan in plans)
    assert set(counts) == {1, 2, 3} and all(abs(n / 6000 - 1 / 3) < 0.025 for n in counts.values())
    names = Counter(name for plan in plans for name, _ in plan)
    total = sum(names.values())
    assert set(names) == set(OPERATIONS) and len(names) == 11
    assert all(abs(n / total - 1 / 11) < 0.01 for n in names.values())
    pairs = [plan for plan in plans if len(plan) == 2]  # with replacement
    assert 0.06 < sum(a[0] == b[0] for a, b in pairs) / len(pairs) < 0.125


RANGES = {'blur': (0.1, 2.0), 'contrast': (0.05, 0.95), 'brightness': (0.05, 0.95),
          'colour': (0.05, 0.95), 'sharpness': (0.05, 0.95), 'posterize': (4, 7),
          'solarize': (1, 255), 'hue': (-0.5, 0.5)}


@pytest.mark.parametrize('name', OPERATIONS)
def test_strengths(name):
    view = RandomIntensity(most=1, operations=[name])
    found = [plan[0][1] for plan in view.draw(3000, torch.Generator().manual_seed(1))]
    if name not in RANGES:
        assert set(found) == {()}
        return
    low, high = RANGES[name]
    values = torch.tensor(found, dtype=torch.float64)[:, 0]
    assert values.min() >= low and values.max() <= high
    width = high - low
    assert values.min() < low + 0.01 * width + 1e-9 and values.max() > high - 0.01 * width - 1e-9
    if name in ('posterize', 'solarize'):
        assert all(isinstance(value, int) for value, in found)
    if name == 'posterize':
        assert all(abs(n / 3000 - 0.25) < 0.04 for n in Counter(values.tolist()).values())


def test_what_is_drawn_is_done():
    view = MODELS.build(dict(type='RandomIntensity'))
    pixels = torch.randint(256, (12, 3, 9, 11), generator=torch.Generator().manual_seed(0)).float()
    images = pixels / 255
    before = images.clone()
    torch.manual_seed(4)
    found = view(images)
    torch.manual_seed(4)
    plans = view.draw(12)
    assert {len(plan) for plan in plans} == {1, 2, 3}
    for image, plan, out in zip(pixels, plans, found):
        for name, arguments in plan:
            image = getattr(intensity, name)(image, *arguments)
        assert torch.equal(out, image / 255)
    assert torch.equal(images, before) and found.shape == images.shape
    assert found.min() >= 0 and found.max() <= 1


def test_autocast_does_not_round_it():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    view, found = RandomIntensity(operations=['blur', 'sharpness', 'colour']), []
    for enabled in (False, True):
        torch.manual_seed(2)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            found.append(view(images))
    assert torch.equal(*found) and found[1].dtype == torch.float32


@pytest.mark.parametrize('keys', [dict(most=0), dict(operations=['invert']), dict(operations=[])])
def test_bad_keys(keys):
    with pytest.raises(ValueError, match='RandomIntensity.*autocontrast'):
        RandomIntensity(**keys)
