"""CutMix: boxes, mixing of whatever belongs to pixels, and the nearest resize between them."""
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmseg_esl.functional import (
    cutmix_mask,
    cutmix_masks_by_image,
    cutout_mask,
    mix,
    nearest,
)

SIZES = [(64, 64), (513, 513), (33, 65), (17, 5), (2, 2), (3, 3), (1, 7), (9, 1), (1, 1)]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def box_of(mask):
    """(top, bottom, left, right) of the True pixels of a (H, W) mask, inclusive; None if empty."""
    rows, cols = np.where(mask.numpy())
    return (rows.min(), rows.max(), cols.min(), cols.max()) if len(rows) else None


# -- boxes ----------------------------------------------------------------------------------

@pytest.mark.parametrize('area', [0.5, 0.25, 0.8])
@pytest.mark.parametrize('size', SIZES)
def test_boxes_are_rectangles_of_the_area(size, area):
    height, width = size
    num = 8 if height > 100 else 64
    mask = cutmix_mask(num, size, area=area, generator=gen())
    assert mask.shape == (num, height, width) and mask.dtype == torch.bool
    for one in mask:
        box = box_of(one)
        pixels = int(one.sum())
        # Each side is a whole number of pixels: half a row and half a column of slack.
        assert abs(pixels - area * height * width) <= 0.5 * (height + width) + 0.25
        if box:  # as many pixels as its bounding box: exactly a rectangle
            top, bottom, left, right = box
            assert pixels == (bottom - top + 1) * (right - left + 1)


def test_default_area_is_half():
    mask = cutmix_mask(32, (200, 200), generator=gen())
    share = mask.double().mean(dim=(1, 2))
    assert ((share - 0.5).abs() < 0.006).all()


def test_a_box_of_one_row_makes_up_the_area_by_its_width():
    assert (cutmix_mask(50, (1, 40), generator=gen()).sum(dim=(1, 2)) == 20).all()


def test_rows_say_nothing_of_columns():
    mask = cutmix_mask(2000, (40, 40), area=0.25, generator=gen())
    (tall, top), (wide, left) = ((x.sum(dim=1), x.int().argmax(dim=1))
                                 for x in (mask.any(dim=2), mask.any(dim=1)))
    free = (tall < 40) & (wide < 40)
    drawn = torch.stack([tall, top / (40 - tall), left / (40 - wide)])[:, free]
    off = torch.corrcoef(drawn) - torch.eye(3)
    assert off.abs().max() < 4 / math.sqrt(2000)  # four standard errors


def test_an_image_just_too_long_for_the_largest_box():
    with pytest.raises(ValueError, match='fits into no image'):
        cutmix_masks_by_image(1, (4, 16), area=(0.5, 0.5), ratio=0.5)


def test_extreme_areas():
    assert not cutmix_mask(16, (9, 12), area=0, generator=gen()).any()
    assert cutmix_mask(16, (9, 12), area=1, generator=gen()).all()


def test_boxes_vary_in_place_and_aspect_and_reach_every_pixel():
    mask = cutmix_mask(400, (21, 21), generator=gen())
    boxes = {box_of(m) for m in mask}
    assert len(boxes) > 150
    heights = {b[1] - b[0] + 1 for b in boxes}
    widths = {b[3] - b[2] + 1 for b in boxes}
    assert min(heights) <= 12 and max(heights) >= 20 and min(widths) <= 12 and max(widths) >= 20
    share = mask.double().mean(dim=0)
    assert share.min() > 0 and share.max() <= 1
    # No side is favoured: flips and the transpose look alike (three standard errors and more).
    for other in (share.flip(0), share.flip(1), share.T):
        assert (share - other).abs().max() < 0.15


def test_boxes_repeat_with_the_seed_and_leave_the_global_state_alone():
    state = torch.get_rng_state()
    first = cutmix_mask(4, (20, 30), generator=gen(5))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, cutmix_mask(4, (20, 30), generator=gen(5)))
    assert not torch.equal(first, cutmix_mask(4, (20, 30), generator=gen(6)))


@pytest.mark.parametrize('area', [-0.1, 1.1, float('nan')])
def test_area_out_of_range_is_refused(area):
    with pytest.raises(ValueError, match='area'):
        cutmix_mask(2, (4, 4), area=area)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_size_gives_a_rectangle_near_the_area(height, width, area, seed):
    mask = cutmix_mask(1, (height, width), area=area, generator=gen(seed))[0]
    assert abs(int(mask.sum()) - area * height * width) <= 0.5 * (height + width) + 0.26
    box = box_of(mask)
    if box:
        assert mask[box[0]:box[1] + 1, box[2]:box[3] + 1].all()
        assert int(mask.sum()) == (box[1] - box[0] + 1) * (box[3] - box[2] + 1)


@pytest.mark.parametrize('size, side', [((20, 30), 8), ((9, 7), 5), ((6, 6), 100), ((6, 6), 0)])
def test_holes(size, side):
    got = cutout_mask(150, size, side, generator=gen(3))
    draw = torch.rand(2, 150, generator=gen(3)).tolist()
    for n in range(150):
        top, left = (int(d[n] * length) - side // 2 for d, length in zip(draw, size))
        want = torch.zeros(size, dtype=torch.bool)
        for y in range(max(top, 0), min(top + side, size[0])):
            for x in range(max(left, 0), min(left + side, size[1])):
                want[y, x] = True
        assert torch.equal(got[n], want)
    assert side == 0 or got.any(dim=0).all()  # the centre may be anywhere


# -- mixing ---------------------------------------------------------------------------------

def naive_mix(x, mask):
    out = x.clone()
    for n in range(x.shape[0]):
        for y in range(x.shape[-2]):
            for w in range(x.shape[-1]):
                if mask[n, y, w]:
                    out[n, ..., y, w] = x[(n + 1) % x.shape[0], ..., y, w]
    return out


def maps(num=3, size=(9, 12)):
    g = gen(1)
    return dict(
        image=torch.randn(num, 3, *size, generator=g),
        target=torch.rand(num, 5, *size, generator=g, dtype=torch.float64),
        confidence=torch.rand(num, *size, generator=g),
        half=torch.rand(num, *size, generator=g).half(),
        part=torch.randint(-1, 25, (num, *size), generator=g),
        byte=torch.randint(0, 255, (num, *size), generator=g).byte(),
        valid=torch.rand(num, *size, generator=g) > 0.5,
        volume=torch.randn(num, 2, 3, *size, generator=g))


@pytest.mark.parametrize('name', list(maps()))
@pytest.mark.parametrize('num', [1, 2, 3])
def test_mix_equals_naive_for_every_kind_of_map(name, num):
    x = maps(num)[name]
    before = x.clone()
    mask = cutmix_mask(num, (9, 12), generator=gen(2))
    out = mix(x, mask)
    assert out.dtype == x.dtype and torch.equal(out, naive_mix(x, mask))
    assert torch.equal(x, before)  # nothing happens in place
    if num == 1:
        assert torch.equal(out, x)
    else:
        assert not torch.equal(out, x)


def test_mix_treats_maps_of_one_pixel_alike():
    """Whatever the kind, a pixel comes from the same image: mix the image numbers and compare."""
    num, size = 4, (10, 7)
    mask = cutmix_mask(num, size, generator=gen(3))
    number = torch.arange(num)[:, None, None].expand(num, *size)
    source = mix(number, mask)
    assert torch.equal(source, torch.where(mask, (number + 1) % num, number))
    planes = mix(number[:, None].expand(-1, 6, -1, -1).double(), mask)
    assert torch.equal(planes, source[:, None].expand(-1, 6, -1, -1).double())


@pytest.mark.parametrize('low', [(3, 4), (5, 7), (1, 1), (18, 24)])
def test_mix_at_another_resolution_uses_the_nearest_box(low):
    mask = cutmix_mask(3, (9, 12), generator=gen(4))
    x = torch.randn(3, 2, *low, generator=gen(5))
    index = [[(2 * i + 1) * big // (2 * small) for i in range(small)]
             for big, small in zip((9, 12), low)]
    coarse = mask[:, index[0]][:, :, index[1]]
    assert torch.equal(mix(x, mask), naive_mix(x, coarse))


@pytest.mark.parametrize('corners', [False, True])
def test_mix_then_nearest_is_nearest_then_mix(corners):
    label = torch.randint(0, 21, (4, 33, 65), generator=gen(6))
    mask = cutmix_mask(4, (33, 65), generator=gen(7))
    low = nearest(label, (9, 17), corners)
    assert torch.equal(nearest(mix(label, mask), (9, 17), corners),
                       mix(low, mask, align_corners=corners))
    assert not torch.equal(low, nearest(label, (9, 17), not corners))


def test_mix_with_all_and_nothing():
    x = torch.randn(3, 2, 4, 4, generator=gen())
    assert torch.equal(mix(x, torch.zeros(3, 4, 4, dtype=torch.bool)), x)
    assert torch.equal(mix(x, torch.ones(3, 4, 4, dtype=torch.bool)), x[[1, 2, 0]])


def test_mix_keeps_soft_labels_distributions():
    target = torch.rand(3, 5, 8, 8, generator=gen()).softmax(1)
    mixed = mix(target, cutmix_mask(3, (8, 8), generator=gen()))
    torch.testing.assert_close(mixed.sum(1), torch.ones(3, 8, 8))


def test_mix_gradcheck():
    mask = cutmix_mask(3, (4, 5), generator=gen(8))
    for shape in ((3, 4, 5), (3, 2, 4, 5), (3, 1, 2, 3)):
        x = torch.randn(shape, generator=gen(9), dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: mix(t, mask), x)


def test_mix_refuses_another_number_of_boxes():
    with pytest.raises(ValueError, match='3 images but 2 boxes'):
        mix(torch.zeros(3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))


# -- nearest --------------------------------------------------------------------------------

PAIRS = [((9, 12), (3, 4)), ((513, 513), (129, 129)), ((769, 769), (193, 193)), ((5, 7), (13, 20)),
         ((128, 256), (32, 64)), ((33, 65), (9, 17)), ((1, 7), (1, 3)), ((6, 1), (2, 5))]


@pytest.mark.parametrize('source, target', PAIRS)
def test_nearest_equals_index_arithmetic(source, target):
    """Pixel i of the small map is centred at (i + 1/2) * in / out of the large one."""
    x = torch.randint(0, 255, (2, *source), generator=gen())
    rows, cols = ([(2 * i + 1) * big // (2 * small) for i in range(small)]
                  for big, small in zip(source, target))
    assert torch.equal(nearest(x, target), x[:, rows][:, :, cols])


@pytest.mark.parametrize('source, target', PAIRS)
def test_nearest_with_aligned_corners(source, target):
    """Pixel i of the small map lies on i (in - 1) / (out - 1) of the large one, halves upwards."""
    x = torch.randint(0, 255, (2, 3, *source), generator=gen())
    rows, cols = ([math.floor(Fraction(i * (big - 1), max(small - 1, 1)) + Fraction(1, 2))
                   for i in range(small)] for big, small in zip(source, target))
    found = nearest(x, target, align_corners=True)
    assert torch.equal(found, x[..., rows, :][..., cols])


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('source, target', [((513, 385), (129, 97)), ((97, 13), (65, 80))])
def test_nearest_reads_where_bilinear_does(source, target, align_corners):
    """A map of a pixel's own place, resized either way, differs by half a pixel at most."""
    place = torch.stack(torch.meshgrid(*(torch.arange(float(n), dtype=torch.float64)
                                         for n in source), indexing='ij'))
    smooth = F.interpolate(place[None], target, mode='bilinear', align_corners=align_corners)[0]
    near = nearest(place, target, align_corners)
    assert (near - smooth).abs().max() <= 0.5 + 1e-9


@pytest.mark.parametrize('source, target', PAIRS)
def test_nearest_equals_pil(source, target):
    x = torch.randint(0, 255, (1, *source), generator=gen(), dtype=torch.uint8)
    image = Image.fromarray(x[0].numpy()).resize(target[::-1], Image.Resampling.NEAREST)
    assert np.array_equal(nearest(x, target)[0].numpy(), np.asarray(image))


@pytest.mark.parametrize('dtype', [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16,
                                   torch.bfloat16, torch.float32])
def test_nearest_keeps_dtype_and_values(dtype):
    x = (torch.randint(-1, 2, (2, 6, 8), generator=gen()) if dtype != torch.uint8 else
         torch.randint(0, 256, (2, 6, 8), generator=gen())).to(dtype)
    assert nearest(x, (6, 8)) is x
    small = nearest(x, (3, 4))
    assert small.dtype == dtype and torch.equal(small, x[:, 1::2, 1::2])
    big = nearest(x, (12, 16))
    assert torch.equal(big, x.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_nearest_keeps_every_label():
    x = torch.tensor([[[2**24 - 1, -1], [255, 2**24 + 1]]])
    assert torch.equal(nearest(x, (4, 4))[:, ::2, ::2], x)


def test_partners_within_groups():
    x = torch.arange(6).view(6, 1, 1).expand(6, 2, 2)
    mask = torch.tensor([[True, False], [False, False]]).expand(6, 2, 2)
    for group, partners in ((2, [1, 0, 3, 2, 5, 4]), (3, [1, 2, 0, 4, 5, 3]),
                            (None, [1, 2, 3, 4, 5, 0])):
        out = mix(x, mask, group=group)
        assert out[:, 0, 0].tolist() == partners
        assert out[:, 1, 1].tolist() == list(range(6))


def test_the_coin_is_one_for_the_batch():
    found = [cutmix_mask(6, (8, 8), prob=0.5, generator=gen(seed)).flatten(1).any(dim=1)
             for seed in range(200)]
    assert {int(some.sum()) for some in found} == {0, 6}
    assert 70 < sum(bool(some.all()) for some in found) < 130
