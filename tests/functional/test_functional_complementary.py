"""Complementary channel dropout, and the partner that CutMix is told."""
import pytest
import torch
from torch import nn

from mmseg_esl.functional import complementary_dropout, complementary_masks, mix


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def ones(num, *widths):
    """Levels of ones, each half the size of the one before: what comes out are the masks."""
    return [torch.ones(2 * num, width, 8 >> i, 8 >> i) for i, width in enumerate(widths)]


def test_the_pair_covers_each_channel_once():
    clean = torch.tensor([True, False, False])
    masks = complementary_masks(3, 500, clean, generator=gen())
    assert masks.shape == (2, 3, 500) and masks.dtype == torch.float32
    assert (masks[0] + masks[1] == 2).all()
    assert (masks[:, 0] == 1).all() and set(masks[:, 1:].unique().tolist()) == {0, 2}
    assert 0.42 < (masks[0, 1:] == 0).double().mean() < 0.58
    assert not torch.equal(masks[0, 1], masks[0, 2])


@pytest.mark.parametrize('num', [1, 2, 3, 4, 7])
@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
def test_how_many_stay_clean(num, share):
    level, = complementary_dropout(ones(num, 300), clean_share=share, generator=gen(num))
    one, two = level.chunk(2)
    assert torch.equal(one + two, torch.full_like(one, 2))
    clean = [bool((image == 1).all()) for image in one]
    assert sum(clean) == int(num * share)
    assert clean == [bool((image == 1).all()) for image in two]


def test_which_stay_clean_is_random():
    found = set()
    for seed in range(60):
        level, = complementary_dropout(ones(4, 50), generator=gen(seed))
        found.add(tuple((level[:4] == 1).flatten(1).all(dim=1).tolist()))
    assert len(found) == 6  # two of four


def test_levels_of_one_width_share_their_masks_and_others_do_not():
    a, b, c = complementary_dropout(ones(4, 200, 200, 200), generator=gen())
    assert torch.equal(a[..., 0, 0], b[..., 0, 0]) and torch.equal(a[..., 0, 0], c[..., 0, 0])
    for level in (a, b, c):  # all positions
        assert torch.equal(level, level[..., :1, :1].expand_as(level))
    a, b, c = complementary_dropout(ones(4, 200, 400, 200), generator=gen())
    assert torch.equal(a[..., 0, 0], c[..., 0, 0])
    assert not torch.equal(a[..., 0, 0], b[:, :200, 0, 0])
    clean = (a == 1).flatten(1).all(dim=1)
    assert torch.equal(clean, (b == 1).flatten(1).all(dim=1)) and clean.sum() == 4


def test_against_features_multiplied_by_hand():
    feats = [torch.randn(6, 5, 3, 4, generator=gen(1)).double(),
             torch.randn(6, 7, 2, 2, generator=gen(2)).double()]
    out = complementary_dropout(feats, generator=gen(9))
    again = gen(9)
    order = torch.rand(3, generator=again)
    clean = order == order.min()
    for level, got in zip(feats, out):
        keep = torch.rand(3, level.shape[1], generator=again) < 0.5
        for n in range(3):
            for d in range(level.shape[1]):
                first = 1 if clean[n] else 2 if keep[n, d] else 0
                assert torch.equal(got[n, d], level[n, d] * first)
                assert torch.equal(got[3 + n, d], level[3 + n, d] * (2 - first))
        assert got.dtype == level.dtype


def test_a_linear_head_sees_the_feature_itself_in_the_mean():
    head, feats = nn.Conv2d(6, 3, 1).double(), torch.randn(4, 6, 5, 5).double()
    with torch.no_grad():
        dropped, = complementary_dropout([torch.cat([feats, feats])], clean_share=0.0)
        one, two = head(dropped).chunk(2)
        assert not torch.allclose(one, two)
        torch.testing.assert_close((one + two) / 2, head(feats), rtol=1e-12, atol=1e-12)


def test_dropped_channels_send_no_gradient_back():
    feats = torch.randn(4, 20, 3, 3, requires_grad=True)
    out, = complementary_dropout([feats], clean_share=0.0, generator=gen())
    out.sum().backward()
    mask = (out / feats).detach()[..., 0, 0].round()
    assert torch.equal(feats.grad, mask[..., None, None].expand_as(feats))
    assert (feats.grad == 0).any()


def test_half_precision_stays():
    out, = complementary_dropout([torch.ones(4, 8, 2, 2, dtype=torch.bfloat16)])
    assert out.dtype == torch.bfloat16 and set(out.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize('share', [-0.1, 1.1])
def test_a_bad_share(share):
    with pytest.raises(ValueError, match=f'clean_share.*{share}'):
        complementary_dropout(ones(2, 3), clean_share=share)


@pytest.mark.parametrize('num, ids', [(4, [3, 2, 1, 0]), (3, [2, 1, 0]), (1, [0])])
def test_boxes_are_filled_from_the_partner(num, ids):
    images = torch.arange(num).view(num, 1, 1, 1).expand(num, 2, 3, 4)
    boxes = torch.rand(num, 3, 4, generator=gen()) < 0.5
    out = mix(images, boxes, partner=torch.tensor(ids))
    for i in range(num):
        assert (out[i][:, boxes[i]] == ids[i]).all() and (out[i][:, ~boxes[i]] == i).all()
    other = mix(images, boxes, partner=torch.tensor(ids), inside=images + 10)
    assert torch.equal(other, torch.where(boxes[:, None], out + 10, images))
