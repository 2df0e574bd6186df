"""A whole step waits for no device, and its own work is bounded whatever the classes and parts.

The operators that wait are dispatched on a CPU as well: see tools/bench/counting.py.
"""
import sys
from pathlib import Path

import pytest
import tiny
import torch

sys.path.append(str(Path(__file__).parents[2] / 'tools'))
from bench.counting import SyncCounter

OHEM = dict(type='OHEMCrossEntropyLoss', min_kept=100)
MEAN = dict(type='CrossEntropyLoss', avg_non_ignore=True)
WEIGHTED = dict(type='CrossEntropyLoss', avg_non_ignore=True, class_weight=[1.0, 2.0, 0.5])


def with_loss(loss, auxiliary=False):
    cfg = tiny.segmentor(auxiliary=auxiliary)
    cfg['decode_head']['loss_decode'] = loss
    return cfg


@pytest.mark.parametrize('loss', [OHEM, MEAN, WEIGHTED, [MEAN, dict(OHEM, loss_name='loss_hard')]])
@pytest.mark.parametrize('variant, options', [
    ('dsl+ctr', {}), ('dsl+ctr', dict(negatives='independent')),
    ('dsl+ctr', dict(sampling='image')), ('hard+ctr', dict(auxiliary_loss=True)),
    ('topk', dict(cutmix_prob=1.0)), ('sup', {})])
def test_from_the_teacher_to_the_ema(variant, options, loss):
    model = tiny.esl(variant, with_loss(loss, auxiliary=True), sharp=1.0, **options)
    with SyncCounter() as counter:
        total, _ = model.parse_losses(model.loss(*tiny.batch()))
        total.backward()
        model.after_optimizer_step(3, 0.99)
    assert counter.all > 500 and not counter.waits


def extra_operations(classes, parts, images) -> int:
    """What a step's forward does beside the forwards of its two networks."""
    model = tiny.esl('dsl+ctr', num_classes=classes, parts=parts, sharp=1.0)
    inputs, samples = tiny.batch(images, images, classes)
    with SyncCounter() as step:
        model.loss(inputs, samples)
    with SyncCounter() as networks:
        with torch.no_grad():
            model.teacher_view(inputs, encoder=True, num_logits=images)
        model.student_views(inputs[:images], inputs[images:], samples[:images])
    return step.all - networks.all


def test_operations_do_not_grow_with_classes_or_parts():
    assert len({extra_operations(c, k, 2) for c in (2, 7) for k in (1, 5)}) == 1


def test_operations_of_an_image_are_few():
    two, four = (extra_operations(3, 2, images) for images in (2, 4))
    assert 0 < four - two <= 150 * 4  # two images of each kind more
