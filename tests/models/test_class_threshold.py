"""CorrMatch's threshold: its arithmetic, and that refused steps leave no trace."""
import math

import pytest
import torch

from mmseg_esl.models.class_threshold import ClassThreshold


def batch(seed):
    g = torch.Generator().manual_seed(seed)
    return (torch.randint(4, (2, 5, 6), generator=g), torch.rand(2, 5, 6, generator=g),
            torch.rand(2, 5, 6, generator=g) < 0.7)


def test_two_classes_by_hand():
    labels = torch.tensor([[[0, 0, 2, 2]]])
    confidence = torch.tensor([[[0.9, 0.3, 0.7, 0.99]]])
    valid = torch.tensor([[[True, True, True, False]]])
    threshold = ClassThreshold(0.85, 0.999)
    found = threshold.update(labels, confidence, valid, 5)
    assert found.item() == pytest.approx(0.999 * 0.85 + 0.001 * 0.8, abs=1e-7) == 0.84995
    assert threshold.value == found and found.dtype == torch.float32


@pytest.mark.parametrize('classes', [4, 21])
def test_against_a_loop(classes):
    threshold, want = ClassThreshold(0.6, 0.9).double(), 0.6
    for seed in range(5):
        labels, confidence, valid = batch(seed)
        found = threshold.update(labels, confidence.double(), valid, classes)
        highest = {}
        for label, c, v in zip(labels.flatten().tolist(), confidence.flatten().tolist(),
                               valid.flatten().tolist()):
            if v:
                highest[label] = max(c, highest.get(label, 0.0))
        want = 0.9 * want + 0.1 * sum(highest.values()) / len(highest)
        assert found.item() == pytest.approx(want, rel=1e-6)  # 0.6 began as a float32


def test_half_life_of_the_start():
    threshold = ClassThreshold(0.5, 0.999).double()
    labels, confidence = torch.zeros(1, 1, 1).long(), torch.ones(1, 1, 1).double()
    steps = math.ceil(math.log(0.5) / math.log(0.999))
    assert steps == 693
    for _ in range(steps):
        threshold.update(labels, confidence, labels == 0, 2)
    assert threshold.value.item() == pytest.approx(0.75, abs=2e-4)


def test_nothing_valid_moves_nothing():
    threshold = ClassThreshold(0.85)
    labels, confidence, valid = batch(0)
    threshold.update(labels, confidence, torch.zeros_like(valid), 4)
    assert threshold.value == torch.tensor(0.85)


def test_commit_and_rollback():
    threshold = ClassThreshold(0.85, 0.9)
    for seed in (1, 2):  # two micro-batches of one refused step
        threshold.update(*batch(seed), 4)
    assert threshold.value != torch.tensor(0.85)
    threshold.rollback()
    assert threshold.value == torch.tensor(0.85)
    moved = threshold.update(*batch(3), 4)
    threshold.commit()
    threshold.rollback()  # of a step that staged nothing
    assert threshold.value == moved
    other = ClassThreshold()
    other.load_state_dict(threshold.state_dict())
    assert other.value == moved
