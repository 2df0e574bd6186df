"""PS-MT's boxes: one size a batch, centres anywhere but in the first eighth, cut at the border."""
import pytest
import torch

from mmseg_esl.functional import cutmix_masks_beta


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('size', [(40, 40), (33, 47), (5, 7), (1, 1)])
def test_against_a_loop(size):
    for seed in range(4):
        got = cutmix_masks_beta(5, size, generator=gen(seed))
        draws = gen(seed)
        side = (1 - sorted(torch.rand(7, generator=draws).tolist())[3]) ** 0.5
        centres = torch.rand(2, 5, generator=draws).tolist()
        want = torch.zeros(5, *size, dtype=torch.bool)
        for n in range(5):
            rows, cols = (
                range(max(0, c - h), min(length, c + h)) for c, h, length in (
                    (length // 8 + int(centres[axis][n] * (length - length // 8)),
                     int(side * length) // 2, length) for axis, length in enumerate(size)))
            for i in rows:
                for j in cols:
                    want[n, i, j] = True
        assert got.dtype == torch.bool and torch.equal(got, want)


def test_law():
    """Beta(4, 4): mean 1/2, variance 1/36; the centre lies in [S / 8, S)."""
    size, whole, lowest = 64, [], []
    for seed in range(600):
        masks = cutmix_masks_beta(8, (size, size), generator=gen(seed))
        rows = masks.any(dim=2).sum(dim=1)
        whole.append(float(rows.max()))
        lowest.append(int(masks.any(dim=2).float().argmax(dim=1).min()))
    share = (torch.tensor(whole) / size).square()  # 1 - lambda, of boxes that are not cut
    assert float(share.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(share.var()) == pytest.approx(1 / 36, abs=0.006)
    assert min(lowest) == 0


def test_one_size_for_the_batch_and_a_place_for_each():
    masks = cutmix_masks_beta(64, (128, 128), generator=gen(3))
    rows, cols = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)
    assert rows.max() == cols.max()  # those that are not cut off
    assert torch.equal(masks.sum(dim=(1, 2)), rows * cols)
    assert len(set(rows.tolist())) > 10
    assert len({tuple(m.nonzero()[0].tolist()) for m in masks}) > 40
