"""The contrast of pixels against loops, figures by hand, and what its draws promise."""
from __future__ import annotations

import math

import pytest
import torch

from mmseg_esl.functional import lend_pixels, other_class, pixel_contrast, weighted_info_nce

N, C, L, H, W = 3, 4, 5, 3, 4


@pytest.fixture
def drawn():
    gen = torch.Generator().manual_seed(0)
    z, weak = (torch.randn(N, L, H, W, dtype=torch.float64, generator=gen) for _ in range(2))
    probs = (2 * torch.randn(N, C, H, W, dtype=torch.float64, generator=gen)).softmax(dim=1)
    valid = torch.rand(N, H, W, generator=gen) < 0.7
    assert all(0 < v.sum() < H * W for v in valid)
    return z.requires_grad_(), weak.requires_grad_(), probs.requires_grad_(), valid


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def lent(valid, lots):
    """The pixels of each image that its lots pick: (image, flat place) one by one."""
    for n, rows in enumerate(lots.tolist()):
        places = valid[n].flatten().nonzero().flatten().tolist()
        for lot in rows:
            if places:
                yield n, places[int(lot * len(places))]


@pytest.mark.parametrize('other_images', [True, False])
@pytest.mark.parametrize('debias', ['weighting', 'none'])
def test_every_anchor_and_negative(drawn, other_images, debias):
    z, weak, probs, valid = drawn
    lots = torch.rand(N, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = pixel_contrast(z, weak, probs, valid, num_negatives=14 if other_images else 21,
                         temperature=0.3, other_images=other_images, debias=debias, draws=lots)
    flat = [x.detach().flatten(2) for x in (z, weak, probs)]
    total, count = 0.0, 0
    for n in range(N):
        for i in range(H * W):
            if not valid[n].flatten()[i]:
                continue
            anchor, positive, mine = (x[n, :, i] for x in flat)
            best, rest = math.exp(cosine(anchor, positive) / 0.3), 0.0
            for m, j in lent(valid, lots):
                if (m == n) if other_images else (m == n and j == i):
                    continue
                chance = 1 - float(mine @ flat[2][m, :, j]) if debias == 'weighting' else 1
                rest += chance * math.exp(cosine(anchor, flat[1][m, :, j]) / 0.3)
            total, count = total - math.log(best / (best + rest)), count + 1
    assert float(got.detach()) == pytest.approx(total / count, rel=1e-12)


def test_gradients_go_to_the_strong_view_alone(drawn):
    z, weak, probs, valid = drawn
    pixel_contrast(z, weak, probs, valid).backward()
    assert weak.grad is None and probs.grad is None
    assert z.grad.transpose(0, 1)[:, valid].any() and not z.grad.transpose(0, 1)[:, ~valid].any()


def test_what_is_not_valid_does_not_matter(drawn):
    z, weak, probs, valid = (x.detach() for x in drawn)
    lots = torch.rand(N, 100, dtype=torch.float64)
    found = [pixel_contrast(*(torch.where(valid[:, None], x, fill) for x in (z, weak, probs)),
                            valid, draws=lots) for fill in (0.0, 7.0)]
    assert found[0] == found[1] > 0


def test_images_in_another_order(drawn):
    """Each with its own lots: the same loss."""
    z, weak, probs, valid = (x.detach() for x in drawn)
    lots, order = torch.rand(N, 100, dtype=torch.float64), [2, 0, 1]
    want = pixel_contrast(z, weak, probs, valid, draws=lots)
    got = pixel_contrast(z[order], weak[order], probs[order], valid[order], draws=lots[order])
    assert float(got) == pytest.approx(float(want), rel=1e-12)


def test_by_hand():
    """A positive of cosine 1 and 200 negatives of cosine 0, tau 0.1; all cosines equal."""
    anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    keys = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(200, 2)
    weight = torch.ones(1, 200, dtype=torch.float64)
    loss = weighted_info_nce(anchor, anchor, keys, weight, temperature=0.1)
    assert float(loss) == pytest.approx(0.0090390, abs=1e-7)
    loss = weighted_info_nce(anchor, anchor, anchor.expand(200, 2), weight, temperature=0.1)
    assert float(loss) == pytest.approx(5.30330, abs=1e-5)
    assert weighted_info_nce(anchor, anchor, keys, 0 * weight, temperature=0.1) == 0


def test_chance_of_another_class():
    one = torch.eye(3, dtype=torch.float64)
    flat = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    assert other_class(one, one).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert float(other_class(flat, flat)) == pytest.approx(2 / 3)
    assert other_class(one.half() * 1.001, one.half()).min() >= 0


def test_sampling_is_weighting_in_expectation():
    """The sum over negatives, of 20,000 draws."""
    gen = torch.Generator().manual_seed(0)
    z = torch.randn(2, L, 2, 2, dtype=torch.float64, generator=gen)
    weak = torch.randn(2, L, 2, 2, dtype=torch.float64, generator=gen)
    probs = torch.randn(2, C, 2, 2, dtype=torch.float64, generator=gen).softmax(dim=1)
    valid = torch.ones(2, 2, 2, dtype=torch.bool)
    found = {}
    for debias in ('weighting', 'sampling', 'none'):
        found[debias] = pixel_contrast(z, weak, probs, valid, num_negatives=20000, debias=debias,
                                       temperature=1.0, generator=gen)
    # with so many negatives the logarithm of their sum is that of its expectation
    assert float(found['sampling']) == pytest.approx(float(found['weighting']), abs=0.02)
    assert float(found['none']) > float(found['weighting']) + 0.1


def test_lent_pixels_are_uniform_over_the_valid_ones():
    valid = torch.tensor([[True, False, True, True], [False] * 4, [False, False, False, True]])
    index, lends = lend_pixels(valid, 9000, generator=torch.Generator().manual_seed(0))
    fine = torch.rand(len(valid), 9000, dtype=torch.float64,  # single precision misses some of 2^24
                      generator=torch.Generator().manual_seed(0))
    assert torch.equal(index, lend_pixels(valid, 9000, draws=fine)[0])
    assert lends.tolist() == [True, False, True]
    counts = torch.bincount(index[0], minlength=4)
    assert counts[1] == 0 and (counts[[0, 2, 3]] - 3000).abs().max() < 200
    assert (index[2] == 3).all() and index[1].max() < 4
    edge = torch.tensor([[0.0, 1 - 1e-16, 0.999999999]], dtype=torch.float64)
    assert lend_pixels(valid[:1], 3, draws=edge)[0].tolist() == [[0, 3, 3]]


def test_one_image_has_no_others(drawn):
    z, weak, probs, valid = (x[:1].detach() for x in drawn)
    z.requires_grad_()
    loss = pixel_contrast(z, weak, probs, valid)
    loss.backward()
    assert loss == 0 and z.grad is not None and not z.grad.any()
    assert pixel_contrast(z, weak, probs, valid, other_images=False) > 0
    nothing = pixel_contrast(z, weak, probs, torch.zeros_like(valid))
    nothing.backward()
    assert nothing == 0 and z.grad.isfinite().all()


def test_a_negative_weighs_what_it_is_told():
    """All cosines equal: -log(1 / (1 + w)), however small w is."""
    anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for w in (1e-3, 0.3, 1.0):
        loss = weighted_info_nce(anchor, anchor, anchor, torch.full((1, 1), w).double(),
                                 temperature=0.1)
        assert float(loss) == pytest.approx(math.log1p(w), rel=1e-6)


def test_short_and_empty_vectors(drawn):
    """Lengths do not matter; without one, the slope is as of a length of 1e-6."""
    z, weak, probs, valid = (x.detach() for x in drawn)
    lots = torch.rand(N, 100, dtype=torch.float64)
    want = pixel_contrast(z, weak, probs, valid, draws=lots)
    for short in ((1e-5 * z, weak), (z, 1e-5 * weak)):
        assert float(pixel_contrast(*short, probs, valid, draws=lots)) == pytest.approx(float(want))
    z = z.float()
    z[:, :, 0] = 0
    z.requires_grad_()
    pixel_contrast(z, weak.float(), probs.float(), valid, draws=lots).backward()
    assert z.grad.isfinite().all() and z.grad.abs().max() <= 2 / 0.1 / 1e-6


def test_defaults_are_the_papers(drawn):
    z, weak, probs, valid = (x.detach() for x in drawn)
    lots = torch.rand(N, 100, dtype=torch.float64)
    assert torch.equal(pixel_contrast(z, weak, probs, valid, draws=lots),
                       pixel_contrast(z, weak, probs, valid, draws=lots, num_negatives=200,
                                      temperature=0.1, other_images=True, debias='weighting'))


def test_two_images_lend_each_other_all_negatives(drawn):
    """The other one alone: all K of them. An anchor among its own image's: half of K each."""
    z, weak, probs, valid = (x[:2].detach() for x in drawn)
    for other_images, each in ((True, 5), (False, 3)):
        lots = torch.rand(2, each, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found = [pixel_contrast(z, weak, probs, valid, num_negatives=5, other_images=other_images,
                                **keys) for keys in (
            dict(draws=lots), dict(generator=torch.Generator().manual_seed(1)))]
        assert found[0] == found[1]


@pytest.mark.parametrize('debias', ['weighting', 'sampling'])
def test_draws_follow_the_generator(drawn, debias):
    one, two, other = (pixel_contrast(*drawn, debias=debias,
                                      generator=torch.Generator().manual_seed(seed)).detach()
                       for seed in (1, 1, 2))
    assert one == two and one != other
    lots = torch.rand(N, 100, dtype=torch.float64)  # what is left to draw is whom sampling keeps
    one, two = (pixel_contrast(*drawn, debias=debias, draws=lots,
                               generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert one == two


def test_a_lone_pixel_and_another_divisor(drawn):
    z, weak, probs, valid = (x.detach() for x in drawn)
    lots = torch.rand(N, 67, dtype=torch.float64)
    own, half = (pixel_contrast(z, weak, probs, valid, other_images=False, draws=lots,
                                divisor=divisor) for divisor in (None, lambda n: 2 * n))
    assert float(own) == pytest.approx(2 * float(half)) and own > 0
    alone = torch.zeros_like(valid)
    alone[0, 1, 2] = True  # nobody to be told from
    assert pixel_contrast(z, weak, probs, alone, other_images=False, debias='none') == 0


def test_autocast_does_not_reach_in(drawn):
    *maps, valid = (x.detach() for x in drawn)
    lots = torch.rand(N, 100, dtype=torch.float64)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = pixel_contrast(*(x.float() for x in maps), valid, draws=lots)
    assert float(found) == pytest.approx(float(pixel_contrast(*maps, valid, draws=lots)), rel=1e-5)


def test_half_precision(drawn):
    z, weak, probs, valid = (x.detach() for x in drawn)
    lots = torch.rand(N, 100, dtype=torch.float64)
    want = pixel_contrast(z, weak, probs, valid, draws=lots)
    got = pixel_contrast(z.bfloat16(), weak.bfloat16(), probs.bfloat16(), valid, draws=lots)
    assert got.dtype == torch.float32 and float(got) == pytest.approx(float(want), rel=0.02)


def test_unknown_debiasing(drawn):
    with pytest.raises(ValueError, match="debias must be .*'never'"):
        pixel_contrast(*drawn, debias='never')
