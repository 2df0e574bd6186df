"""Agreement of label maps against a loop over sets of pixels."""
import numpy as np
import pytest
import torch

from mmseg_esl.functional import mean_iou, stability


def naive(first, second):
    """Mean IoU over the classes of either map, from sets of pixel numbers."""
    first, second = first.ravel(), second.ravel()
    values = []
    for c in sorted({*first, *second}):
        a, b = set(np.flatnonzero(first == c)), set(np.flatnonzero(second == c))
        values.append(len(a & b) / len(a | b))
    return sum(values) / len(values)


@pytest.mark.parametrize('first, second, wanted', [
    ([0, 0, 1, 1], [0, 1, 1, 1], (1 / 2 + 2 / 3) / 2),
    ([2, 2, 2, 2], [2, 2, 2, 2], 1),  # one class alone: a plain image is always stable
    ([0, 0, 0, 0], [1, 1, 1, 1], 0),
    ([0, 1, 1, 1], [0, 1, 1, 2], (1 + 2 / 3 + 0) / 3),  # classes of one pixel
    ([0, 0, 2, 2], [0, 0, 2, 2], 1),  # class 1 is in neither
])
def test_closed_forms(first, second, wanted):
    maps = torch.tensor([first, second]).view(2, 1, 2, 2)
    assert mean_iou(maps[0], maps[1], 3).item() == pytest.approx(wanted, abs=1e-15)
    assert stability(maps[:, 0], 3).item() == pytest.approx(wanted, abs=1e-15)


def test_random_maps_against_sets():
    rng = np.random.default_rng(0)
    for num_classes, drawn in ((2, 2), (3, 2), (7, 7)):  # (3, 2): a class that never occurs
        maps = rng.integers(0, drawn, (4, 5, 6, 7))
        maps[0, 0] = 0
        found = mean_iou(*torch.from_numpy(maps[:2]), num_classes)
        wanted = [naive(a, b) for a, b in zip(*maps[:2])]
        np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-14)
        for image in range(5):
            snapshots = torch.from_numpy(maps[:, image])
            wanted = np.mean([naive(m, maps[3, image]) for m in maps[:3, image]])
            assert stability(snapshots, num_classes).item() == pytest.approx(wanted, abs=1e-14)
            swapped = snapshots[[2, 0, 1, 3]]  # the order of the earlier ones does not matter
            assert stability(swapped, num_classes).item() == pytest.approx(wanted, abs=1e-14)
