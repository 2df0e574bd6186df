"""Kornia's colours: in range, in place, each image by itself."""
import builtins

import pytest
import torch

from mmseg_esl.models import KorniaStrongView


def steps(num=6, size=16):
    """Images with an edge in the middle: its place tells whether pixels have moved."""
    images = torch.full((num, 3, size, size), 0.3)
    images[..., size // 2:] = 0.7
    return images


def test_without_any_chance_nothing_changes():
    pytest.importorskip('kornia')
    view = KorniaStrongView(jitter_prob=0, grey_prob=0, blur_prob=0)
    images = torch.rand(3, 3, 8, 8) * 1.4 - 0.2
    torch.testing.assert_close(view(images), images.clamp(0, 1))


def test_colours_change_by_image_and_pixels_stay():
    pytest.importorskip('kornia')
    images = steps()
    found = KorniaStrongView((0.2, 0.2, 0.2, 0.1), jitter_prob=1, blur_prob=0, grey_prob=0)(images)
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 1
    assert len({tuple(x.tolist()) for x in found[:, :, 0, 0]}) == 6
    assert ((found[..., 7] - found[..., 8]).abs().amax(dim=1) > 0.01).all()
    for part in (found[..., :8], found[..., 8:]):  # flat where they were flat
        assert (part.amax(dim=(2, 3)) - part.amin(dim=(2, 3))).max() < 1e-5


def test_grey_and_blur():
    pytest.importorskip('kornia')
    images = torch.rand(4, 3, 16, 16)
    grey = KorniaStrongView(jitter_prob=0, grey_prob=1, blur_prob=0)(images)
    want = (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * images).sum(dim=1)
    torch.testing.assert_close(grey, want[:, None].expand_as(grey), rtol=1e-3, atol=1e-3)
    blurred = KorniaStrongView(jitter_prob=0, grey_prob=0, blur_prob=1, blur_sigma=(2.0, 2.0))(
        images)
    assert (blurred.std(dim=(2, 3)) < 0.5 * images.std(dim=(2, 3))).all()
    edge = KorniaStrongView(jitter_prob=0, grey_prob=0, blur_prob=1)(steps())
    torch.testing.assert_close(edge, 1 - edge.flip(-1), rtol=0, atol=1e-5)  # not to a side


def test_its_numbers_stay_on_the_cpu_wherever_the_model_goes():
    """Drawn on a GPU kornia would wait for them; here, on a device that nothing is read from."""
    pytest.importorskip('kornia')
    view = KorniaStrongView(jitter_prob=1, blur_prob=1).to('meta')
    assert view(steps()).isfinite().all()


def test_kornia_is_named_where_it_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith('kornia'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ImportError, match=r'pip install "mmseg_esl\[strong\]"'):
        KorniaStrongView()
