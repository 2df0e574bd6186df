"""ST++'s strong augmentation."""
import colorsys

import numpy as np
from PIL import Image

from mmseg_esl.datasets import NoiseCutOut, StrongColours
from mmseg_esl.datasets.strong import _turn_hue


def sample(height=40, width=60):
    rng = np.random.default_rng(0)
    return dict(img=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
                gt_seg_map=rng.integers(0, 5, (height, width), dtype=np.uint8))


def test_cutout_is_noise_and_ignored_on_one_box():
    np.random.seed(0)
    areas = []
    for _ in range(600):
        before = sample()
        after = NoiseCutOut(prob=1)({key: value.copy() for key, value in before.items()})
        ignored = after['gt_seg_map'] == 255
        rows, columns = np.flatnonzero(ignored.any(1)), np.flatnonzero(ignored.any(0))
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert ignored.sum() == tall * wide  # a full box
        for key in ('img', 'gt_seg_map'):
            assert (after[key][~ignored] == before[key][~ignored]).all()
        # rounded down to whole pixels on both sides
        assert tall * wide <= 0.4 * ignored.size and (tall + 1) * (wide + 1) >= 0.02 * ignored.size
        assert tall / (wide + 1) <= 1 / 0.3 and (tall + 1) / wide >= 0.3
        areas.append(ignored.mean())
    noise = after['img'][ignored]
    assert len(np.unique(noise)) > 60 and (noise != before['img'][ignored]).mean() > 0.9
    # big boxes rarely fit where they are drawn: the mean is not the .21 of U(.02, .4)
    assert abs(np.mean(areas) - 0.135) < 0.02
    assert sum((NoiseCutOut()(sample())['gt_seg_map'] == 255).any() for _ in range(400)) in range(
        160, 241)


def test_colours_leave_labels_and_can_be_each_alone():
    before, off = sample(), dict(jitter_prob=0, grey_prob=0, blur_prob=0)
    label = before['gt_seg_map'].copy()
    np.random.seed(0)
    same = StrongColours(**off)(sample())
    assert (same['img'] == before['img']).all()
    grey = StrongColours(**{**off, 'grey_prob': 1})(sample())['img'].astype(int)
    wanted = before['img'] @ np.array([0.114, 0.587, 0.299])  # BGR
    assert np.abs(grey - wanted[..., None]).max() <= 1
    blurred = StrongColours(**{**off, 'blur_prob': 1, 'blur_sigma': (2, 2)})(sample())['img']
    assert blurred.std() < 0.5 * before['img'].std()
    jittered = StrongColours(**{**off, 'jitter_prob': 1})(sample())
    assert (jittered['img'] != before['img']).mean() > 0.5
    bright = StrongColours(jitter=(0.5, 0, 0, 0), **{**off, 'jitter_prob': 1})(sample())['img']
    kept = (before['img'] > 100) & (bright < 255)
    ratio = bright[kept] / before['img'][kept]
    assert np.ptp(ratio) < 0.05 and 0.5 <= ratio.mean() <= 1.5 and abs(ratio.mean() - 1) > 0.01
    for result in (same, jittered):
        assert (result['gt_seg_map'] == label).all()


def test_hue_turns():
    image = Image.new('RGB', (1, 1), (200, 40, 40))
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in (200, 40, 40)))
    for share in (0.25, -0.25):
        wanted = np.array(colorsys.hsv_to_rgb((hue + share) % 1, saturation, value)) * 255
        # as torchvision's: the circle has 255 steps in PIL and 256 in the sum, so two are lost
        step = 6 * 160 / 255
        assert np.abs(np.asarray(_turn_hue(image, share))[0, 0] - wanted).max() <= 2 * step
