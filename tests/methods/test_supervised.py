"""The supervised baseline by hand: loss, schedule, and methods without unlabelled images."""
from __future__ import annotations

import math
from pathlib import Path

import pytest
import straight
import tiny
import torch
from mmengine.config import Config
from mmseg.registry import PARAM_SCHEDULERS

ROOT = Path(__file__).parents[2]
LOSS = dict(type='CrossEntropyLoss', avg_non_ignore=True)


def head():
    cfg = tiny.segmentor(2)
    cfg['decode_head']['loss_decode'] = LOSS
    return tiny.method('Supervised', cfg, num_classes=2).student.decode_head


def test_the_mean_of_three_pixels():
    """One of four is ignored."""
    logits = torch.tensor([[[[1.0, 0.0], [2.0, 9.0]], [[0.0, 3.0], [2.0, -9.0]]]])
    labels = [tiny.sample(torch.tensor([[0, 0], [1, 255]]), True)]
    want = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3)) + math.log(2)) / 3
    found = head().loss_by_feat(logits, labels)['loss_ce']
    assert float(found) == pytest.approx(want, rel=1e-6)


def test_nothing_to_learn_is_a_finite_zero():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = head().loss_by_feat(logits, [tiny.sample(torch.full((2, 2), 255), True)])['loss_ce']
    loss.backward()
    assert loss == 0 and logits.grad.isfinite().all() and not logits.grad.any()


def test_the_schedule_is_poly_to_zero():
    """lr (1 - t / (N - 1)) ** 0.9: mmengine reaches zero in the last iteration, not after it."""
    scheduler, = Config.fromfile(ROOT / 'configs/_base_/deeplabv3plus.py').param_scheduler
    steps = 101
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    tiny.init_default_scope('mmseg')
    poly = PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer, end=steps))
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        poly.step()
    for t in (0, steps // 2, steps - 1):
        assert rates[t] == pytest.approx(0.01 * (1 - t / (steps - 1)) ** 0.9, abs=1e-12)


@pytest.mark.parametrize('average', [False, True])
def test_against_a_straight_line(average):
    """Unlabelled images in the batch are not looked at."""
    model = tiny.method('Supervised', sharp=1.0, average=average, ema_momentum=0.4).double()
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    assert list(nets) == (['student', 'teacher'] if average else ['student'])

    def reference(number, images, labels, views):
        assert views == []
        loss = straight.supervised(nets['student'](images[:2]), labels[:2])
        found = straight.stepped({'decode.loss_ce': loss}, nets['student'])
        if average:
            nets['teacher'].follow(nets['student'], min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)


@pytest.mark.parametrize('kind', ['MeanTeacher', 'ESL', 'CutMixSeg', 'U2PL'])
def test_a_method_without_unlabelled_images_is_the_baseline_bit_for_bit(kind):
    found, start = [], tiny.method('Supervised').student.state_dict()
    for name in ('Supervised', kind):
        model = tiny.method(name)
        model.student.load_state_dict(start)  # other networks draw random weights before it
        optimizer = torch.optim.SGD(model.student.parameters(), 0.05, momentum=0.9)
        for number in range(3):
            optimizer.zero_grad()
            losses = model.loss(*tiny.batch(3, 0, seed=number))
            tiny.total(losses).backward()
            optimizer.step()
            model.after_optimizer_step(number)
        found.append(model.student.state_dict())
    assert all(torch.equal(found[0][key], value) for key, value in found[1].items())
