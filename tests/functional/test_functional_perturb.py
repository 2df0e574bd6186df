"""CCT's perturbations against loops over (2, 3, 4, 4) features."""
import pytest
import torch

from mmseg_esl.functional import component_boxes, feature_drop, feature_noise, guided_cutout

B, D, H, W = 2, 3, 4, 4


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def z():
    return torch.rand(B, D, H, W, dtype=torch.float64, generator=gen(9))


def test_noise(z):
    got = feature_noise(z, width=0.3, generator=gen(1))
    draw = torch.rand(D, H, W, dtype=torch.float64, generator=gen(1))
    for b in range(B):
        for d in range(D):
            for i in range(H):
                for j in range(W):
                    ratio = 1 + 0.3 * (2 * float(draw[d, i, j]) - 1)
                    assert float(got[b, d, i, j]) == pytest.approx(
                        float(z[b, d, i, j]) * ratio, rel=1e-12)
    ratio = got / z - 1
    assert (ratio.abs() <= 0.3).all() and ratio.min() < -0.2 and ratio.max() > 0.2
    torch.testing.assert_close(ratio[0], ratio[1])  # one for the batch


def test_noise_of_the_papers_width(z):
    ratio = feature_noise(torch.ones(1, 50, 20, 20), generator=gen(2)) - 1
    assert 0.299 < ratio.max() <= 0.3 and -0.3 <= ratio.min() < -0.299


def test_drop_of_the_papers_share():
    """A ramp: what is kept of it is the share that was drawn, one for the batch."""
    ramp = torch.linspace(0, 1, 1001).view(1, 1, 7, 143).expand(2, 3, 7, 143)
    every = torch.ones(2, 7, 143, dtype=torch.bool)
    kept = torch.stack([feature_drop(ramp, every, generator=gen(seed)).amax(dim=(1, 2, 3))
                        for seed in range(200)])
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert 0.695 < kept.min() < 0.72 and 0.88 < kept.max() <= 0.9
    fixed = feature_drop(torch.tensor([1.0, 0.5, 0.25]).view(1, 1, 1, 3), every[:1, :1, :3],
                         share=(0.5, 0.5))
    assert fixed.flatten().tolist() == [0, 0, 0.25]  # what is at the share goes


def test_drop(z):
    valid = torch.ones(B, H, W, dtype=torch.bool)
    valid[1, :, 3] = False
    z[1, :, :, 3] = 50.0  # padding has no say in the maximum
    got = feature_drop(z, valid, share=(0.7, 0.9), generator=gen(1))
    u = 0.7 + 0.2 * float(torch.rand((), dtype=torch.float64, generator=gen(1)))
    dropped = 0
    for b in range(B):
        mean = [[sum(float(z[b, d, i, j]) for d in range(D)) / D for j in range(W)]
                for i in range(H)]
        most = max(mean[i][j] for i in range(H) for j in range(W) if valid[b, i, j])
        for i in range(H):
            for j in range(W):
                stays = mean[i][j] < most * u
                assert torch.equal(got[b, :, i, j], z[b, :, i, j] * stays)
                dropped += not stays
    assert 2 < dropped < B * H * W


def test_drop_at_the_ends(z):
    valid = torch.ones(B, H, W, dtype=torch.bool)
    assert torch.equal(feature_drop(-z, valid), -z)  # below zero nothing is dropped
    assert not feature_drop(z, ~valid).any() and feature_drop(z, ~valid).isfinite().all()


def test_cutout():
    fore = torch.zeros(3, 12, 15, dtype=torch.bool)
    fore[0, 1:11, 2:7] = True  # 10 x 5: a window of 4 x 2
    fore[0, 3:6, 10:13] = True  # 3 x 3: 1 x 1
    fore[1, 0:2, 0:2] = True  # 2 x 2: int(0.8) is no window
    seen = set()
    for seed in range(60):
        keep = guided_cutout(component_boxes(fore), (12, 15), generator=gen(seed))
        assert keep[1:].all() and int((~keep[0]).sum()) == 8 + 1
        big, small = (~keep[0, :, :8]).nonzero(), (~keep[0, :, 8:]).nonzero()
        rows, cols = big[:, 0], big[:, 1]
        assert int(rows.max() - rows.min()) == 3 and int(cols.max() - cols.min()) == 1
        assert 1 <= rows.min() and rows.max() < 11 and 2 <= cols.min() and cols.max() < 7
        assert 3 <= small[0, 0] < 6 and 2 <= small[0, 1] < 5
        seen |= {(int(rows.min()), int(cols.min()))}
    assert {y for y, _ in seen} == set(range(1, 8)) and {x for _, x in seen} == set(range(2, 6))
    again = guided_cutout(component_boxes(fore), (12, 15), generator=gen(59))
    assert torch.equal(keep, again)
    assert len(seen) > 15  # of 28 places: rows say nothing of columns


def test_cutout_of_overlapping_boxes_and_small_ones():
    """A ring and what is in it: boxes overlap, places count once; small ones can be left whole."""
    fore = torch.zeros(1, 20, 20, dtype=torch.bool)
    fore[0, 0], fore[0, -1], fore[0, :, 0], fore[0, :, -1] = True, True, True, True
    fore[0, 5:15, 5:15] = True
    boxes = component_boxes(fore)
    assert int(boxes[4].sum()) == 2
    counts = {int((~guided_cutout(boxes, (20, 20), generator=gen(s))).sum()) for s in range(30)}
    assert max(counts) <= 64 + 16 and 64 in counts  # one window within the other
    assert guided_cutout(boxes, (20, 20), min_perimeter=40, generator=gen(1)).equal(
        guided_cutout(boxes, (20, 20), generator=gen(1)))  # the inner one's own
    keep = guided_cutout(boxes, (20, 20), min_perimeter=41)
    assert int((~keep).sum()) == 64
    assert guided_cutout(boxes, (20, 20), min_perimeter=81).all()
