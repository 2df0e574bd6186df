"""Boxes that toggle against loops, and the shift of the partner."""
import pytest
import torch

from mmseg_esl.functional import cutmix_masks_xor, mix


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('size', [(40, 40), (33, 47), (5, 7)])
@pytest.mark.parametrize('boxes', [1, 2, 3])
def test_against_a_loop(size, boxes):
    keys = {} if boxes == 3 else dict(boxes=boxes)  # three are the release's
    got = cutmix_masks_xor(6, size, **keys, generator=gen(1))
    draw = torch.rand(4, 6 * boxes, generator=gen(1)).tolist()
    want = torch.zeros(6, *size, dtype=torch.bool)
    for number in range(6 * boxes):
        s, r, y, x = (row[number] for row in draw)
        share = 0.25 + 0.25 * s
        tall, wide = share ** r, share / share ** r
        sides = [round(a * boxes ** -0.5 * n) for a, n in zip((tall, wide), size)]
        top, left = (round((n - side) * u) for n, side, u in zip(size, sides, (y, x)))
        for i in range(top, top + sides[0]):
            for j in range(left, left + sides[1]):
                want[number // boxes, i, j] ^= True
    assert got.dtype == torch.bool and torch.equal(got, want)


def test_one_box_of_a_fixed_share():
    mask = cutmix_masks_xor(50, (200, 160), boxes=1, share=(0.25, 0.25), generator=gen())
    assert (mask.double().mean(dim=(1, 2)) - 0.25).abs().max() < 0.01


def test_equal_boxes_cancel():
    """In an image of one pixel all boxes are one."""
    mask = cutmix_masks_xor(4, (1, 1), boxes=2, share=(1.0, 1.0), generator=gen())
    assert not mask.any()
    assert cutmix_masks_xor(4, (1, 1), boxes=3, share=(1.0, 1.0), generator=gen()).all()


def test_mean_share_is_the_release_s():
    shares = cutmix_masks_xor(4000, (64, 64), generator=gen()).double().mean(dim=(1, 2))
    assert shares.mean() == pytest.approx(0.252, abs=0.005)
    assert shares.std() == pytest.approx(0.07, abs=0.01)
    assert 0 < shares.min() < 0.12 and 0.42 < shares.max() < 0.5


@pytest.mark.parametrize('keys', [dict(boxes=0), dict(share=(0.0, 0.5)), dict(share=(0.5, 0.25)),
                                  dict(share=(0.25, 1.5))])
def test_bad_laws(keys):
    with pytest.raises(ValueError, match='boxes must be at least 1 and share rise'):
        cutmix_masks_xor(2, (8, 8), **keys)


@pytest.mark.parametrize('shift', [1, 2, 3])
def test_partners_are_as_far_as_the_shift(shift):
    x = torch.arange(4)[:, None, None].expand(4, 3, 3)
    got = mix(x, torch.ones(4, 3, 3, dtype=torch.bool), shift=shift)
    assert got[:, 0, 0].tolist() == [(i + shift) % 4 for i in range(4)]
    pairs = mix(x, torch.ones(4, 3, 3, dtype=torch.bool), group=2, shift=1)
    assert pairs[:, 0, 0].tolist() == [1, 0, 3, 2]
