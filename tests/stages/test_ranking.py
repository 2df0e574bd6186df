"""Which images are reliable, and going on where a ranking was stopped."""
import random

import numpy as np
import pytest

from mmseg_esl.stages.images import Images
from mmseg_esl.stages.ranking import score, split


def test_split_is_the_better_half_whatever_the_order():
    scores = {'e': 0.5, 'a': 0.1, 'd': 0.5, 'b': 0.9, 'c': 0.5}
    wanted = (['b', 'c'], ['d', 'e', 'a'])  # floor(5 / 2); equal ones by name
    for seed in range(5):
        names = random.Random(seed).sample(sorted(scores), 5)
        assert split({name: scores[name] for name in names}) == wanted


class Fixed:
    """Masks that a snapshot gives, and which were asked for."""

    def __init__(self, masks):
        self.masks, self.asked = masks, []

    def prepare(self, path):
        self.asked.append(path)
        return path

    def __call__(self, several):
        return [self.masks[path] for path in several]


def test_goes_on_behind_the_last_whole_line(tmp_path):
    rng = np.random.default_rng(0)
    images = Images('x', ('a', 'b,c', 'd'))
    snapshots = [{images.path(n): rng.integers(0, 3, (4, 5)).astype(np.int32)
                  for n in images.names} for _ in range(3)]
    path = tmp_path / 'stability.csv'
    whole = score(images, [Fixed(masks) for masks in snapshots], 3, path)
    text = path.read_text()
    assert len(set(whole.values())) == 3
    path.write_text(text[:text.index('b,c') + 2])  # killed within the second line
    maskers = [Fixed(masks) for masks in snapshots]
    again = score(images, maskers, 3, path)
    assert again == whole and path.read_text() == text
    assert maskers[0].asked == ['x/b,c', 'x/d']
    assert whole['a'] == pytest.approx(np.mean([
        np.nanmean([_iou(masks['x/a'] == c, snapshots[2]['x/a'] == c) for c in range(3)])
        for masks in snapshots[:2]]))


def _iou(a, b):
    return (a & b).sum() / (a | b).sum() if (a | b).any() else np.nan
