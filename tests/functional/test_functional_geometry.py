"""Windows and ClassMix against loops over pixels."""
import math

import pytest
import torch

from mmseg_esl.functional import (
    classmix_mask,
    flip_some,
    look_through,
    mix,
    rescale_windows,
    windows_inside,
)


def source(j, corner, factor):
    """Pixel coordinate in the old image of the j-th pixel of a window."""
    return (j + 0.5 + corner) / factor - 0.5


def reflect(u, n):
    """Back and forth between -0.5 and n - 0.5, then onto a pixel's centre."""
    u = (u + 0.5) % (2 * n)
    u = (2 * n - u if u > n else u) - 0.5
    return min(max(u, 0), n - 1)


def value(x, v, u):
    """Bilinear mean of a map at (v, u)."""
    (height, width), total = x.shape, 0.0
    top, left = math.floor(v), math.floor(u)
    for a in (top, top + 1):
        for b in (left, left + 1):
            weight = (1 - abs(v - a)) * (1 - abs(u - b))
            if weight > 0:
                total += weight * float(x[min(a, height - 1), min(b, width - 1)])
    return total


def test_windows_are_drawn_within_the_rescaled_image():
    gen = torch.Generator().manual_seed(0)
    windows = rescale_windows(500, (30, 40), (0.5, 1.5), generator=gen)
    factor, top, left = windows.T
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5
    assert abs(float(factor.mean()) - 1) < 0.05
    for corner, side in ((top, 30), (left, 40)):
        room = (factor * side).floor() - side
        assert ((corner >= 0) & (corner <= room.clamp(min=0))).all()
        assert (corner[room <= 0] == 0).all() and (corner == room)[room > 2].any()
        assert torch.equal(corner, corner.round())
    one, two, other = (rescale_windows(5, (30, 40), (0.5, 1.5),
                                       generator=torch.Generator().manual_seed(seed))
                       for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    for bad in ((0, 1), (1.5, 0.5)):
        with pytest.raises(ValueError, match='scale'):
            rescale_windows(1, (4, 4), bad)


@pytest.mark.filterwarnings('error')
def test_through_windows_pixel_by_pixel():
    x = torch.randn(5, 2, 9, 12, dtype=torch.float64)
    windows = torch.tensor([[1.0, 0, 0], [0.57, 0, 0], [1.37, 3, 2], [0.83, 0, 0],
                            [0.5, 0, 0]])  # a row of the last lies just on the border
    smooth, near = look_through(x, windows), look_through(x, windows, nearest=True)
    shown = windows_inside(windows, (9, 12))
    assert torch.allclose(smooth[0], x[0]) and torch.equal(near[0], x[0]) and shown[0].all()
    for b, (factor, top, left) in enumerate(windows.tolist()):
        for i in range(9):
            for j in range(12):
                v, u = source(i, top, factor), source(j, left, factor)
                within = -0.5 <= v <= 8.5 and -0.5 <= u <= 11.5
                assert bool(shown[b, i, j]) == within
                v, u = reflect(v, 9), reflect(u, 12)
                for c in range(2):
                    assert float(smooth[b, c, i, j]) == pytest.approx(value(x[b, c], v, u),
                                                                      rel=1e-6, abs=1e-6)
                    assert near[b, c, i, j] == x[b, c, round(v), round(u)]
    assert not shown[1].all() and shown[2].all()


def test_images_and_labels_stay_together():
    """An image that says where its pixels are, and labels that say it too."""
    rows = torch.arange(20.0)[:, None].expand(20, 30)
    cols = torch.arange(30.0).expand(20, 30)
    where = torch.stack([rows, cols])[None].expand(6, -1, -1, -1)
    windows = rescale_windows(6, (20, 30), (0.5, 1.5), generator=torch.Generator().manual_seed(1))
    image, label = look_through(where, windows), look_through(where, windows, nearest=True)
    assert torch.equal(label, label.round())
    shown = windows_inside(windows, (20, 30))[:, None].expand_as(image)
    assert ((image - label).abs()[shown] <= 0.5 + 1e-4).all()


def test_flips():
    x, which = torch.randn(3, 2, 4, 5), torch.tensor([True, False, True])
    found = flip_some(x, which)
    assert torch.equal(found[1], x[1])
    assert all(torch.equal(found[b, ..., j], x[b, ..., 4 - j]) for b in (0, 2) for j in range(5))
    labels = torch.randint(0, 4, (3, 4, 5))
    assert torch.equal(flip_some(labels, which)[0], labels[0].flip(-1))


def test_classmix_by_hand():
    labels = torch.randint(-1, 6, (4, 7, 8))
    labels[2] = 3  # a single class: the whole image comes from the next one
    labels[3, :, 0] = 255
    keys = torch.rand(4, 6)
    mask = classmix_mask(labels, 6, keys=keys)
    assert mask[2].all()
    for b in range(4):
        own = sorted((c for c in set(labels[b].flatten().tolist()) if 0 <= c < 6),
                     key=lambda c: float(keys[b, c]))
        chosen = own[:len(own) // 2]
        for y in range(7):
            for x in range(8):
                assert bool(mask[b, y, x]) == (int(labels[b, y, x]) not in chosen)
    mixed = mix(labels, mask)
    for b in range(4):  # histogram: the pasted pixels, and the next image's elsewhere
        pasted, rest = labels[b][~mask[b]], labels[(b + 1) % 4][mask[b]]
        assert set(pasted.tolist()) <= set(range(6)) & set(labels[b].flatten().tolist())
        assert sorted(mixed[b].flatten().tolist()) == sorted([*pasted.tolist(), *rest.tolist()])


def test_classmix_follows_the_generator():
    labels = torch.randint(0, 6, (4, 7, 8))
    one, two, other = (classmix_mask(labels, 6, generator=torch.Generator().manual_seed(seed))
                       for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_classmix_chooses_alike():
    labels = torch.arange(4).view(1, 2, 2).expand(4000, 2, 2)
    mask = classmix_mask(labels, 5, generator=torch.Generator().manual_seed(2))
    assert ((~mask).flatten(1).sum(dim=1) == 2).all()
    share = (~mask).flatten(1).double().mean(dim=0)
    assert (share - 0.5).abs().max() < 0.04
    nothing = classmix_mask(torch.full((2, 3, 3), -1), 5)
    assert nothing.all()
