"""The frame before its first step and around it: how it begins, whom it asks, what it says."""
from __future__ import annotations

import copy

import pytest
import tiny
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_esl.functional.ramps import RAMPS
from mmseg_esl.semi import Batch, SemiSegmentor


def fresh(kind='FixMatch', **keys):
    """As a config gives it: no hook has been there."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(tiny.method_cfg(kind, **keys)))


def test_before_anybody_drives_it():
    model = fresh(labels_by='teacher', warmup_iters=1)
    with pytest.raises(RuntimeError, match='StepHook'):
        model.loss(*tiny.batch())
    assert model.ramp() == 0 and model.progress == 0  # the first, of nobody knows how many
    assert not model.step_refused and not model.is_init
    with tiny.quiet():
        model.init_weights()
    assert model.is_init
    model.iter = 3
    assert model.progress == 0  # still, for nobody says how long it is
    model.max_iters = 4
    assert model.progress == 0.75


def test_ready_for_a_trial():
    """As the doctor and the bench take a step without a runner."""
    model = fresh().eval().prepare_trial()
    assert model.training and torch.isfinite(tiny.total(model.loss(*tiny.batch())))


def test_draws_by_image_begin_with_seed_0():
    found = []
    for seed in (None, 0, 1):
        model = tiny.esl('dsl', sampling='image')
        if seed is not None:
            model.seed = seed
        found.append(model.draws(Batch.of(*tiny.batch())).cutmix((32, 32), 1.0, 0.5))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])
    assert tiny.esl('dsl').draws(Batch.of(*tiny.batch())) is None


def test_steps_are_counted_beyond_what_a_float_holds():
    model = tiny.method('FixMatch')
    model.ema_steps.fill_(2 ** 24)
    model.after_optimizer_step(0)
    assert int(model.ema_steps) == 2 ** 24 + 1


def test_the_chosen_network_predicts():
    model = tiny.method('FixMatch', labels_by='teacher', test_cfg=dict(predict_on='student'))
    model.student.decode_head.conv_seg.bias.data += torch.tensor([0.0, 1.0, 0.0])
    images, samples = tiny.batch(2, 0)
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(images), model.student(images, mode='tensor'))
        mine, want, other = (net(images, copy.deepcopy(samples), mode='predict')
                             for net in (model, model.student, model.teacher))
    for a, b, c in zip(mine, want, other):
        assert torch.equal(a.seg_logits.data, b.seg_logits.data)
        assert not torch.equal(a.seg_logits.data, c.seg_logits.data)


def test_a_network_that_is_no_segmentor_is_not_evaluated():
    with pytest.raises(ValueError, match="one of student, teacher, got 'projector'"):
        tiny.esl(test_cfg=dict(predict_on='projector'))


def test_loss_terms_are_watched_and_nothing_else():
    model = tiny.method('FixMatch')
    model.watch.on = True
    nan = torch.tensor(torch.nan)
    model.parse_losses(dict(loss_a=torch.tensor(1.0), acc=nan))
    assert model.watch.report() == []
    model.parse_losses(dict(loss_a=nan, acc=torch.tensor(1.0)))
    assert 'loss term loss_a' in model.watch.report()


@pytest.mark.parametrize('shape', RAMPS)
def test_nothing_unlabelled_counts_in_the_warm_up(shape):
    """Whatever shape the ramp has, whose first value need not be 0."""
    model = tiny.method('FixMatch', warmup_iters=3, ramp_iters=4, ramp_shape=shape)
    found = [model.ramp() for model.iter in range(9)]
    assert found[:3] == [0, 0, 0] and found[6:] == [1, 1, 1]
    assert 0 < found[3] < found[4] < found[5] < 1


def test_one_process_counts_for_itself():
    assert tiny.method('FixMatch').divisor is None
    assert tiny.method('FixMatch', global_average=False).divisor is None


def test_pixels_that_count_are_of_any_class():
    inputs, samples = tiny.batch(2, 2)
    labels = torch.stack([s.gt_sem_seg.data[0] for s in samples])
    assert (labels[:2] == 0).any()
    assert torch.equal(Batch.of(inputs, samples).known, labels != 255)
    assert torch.equal(Batch.of(inputs, samples, 1).known[:2],
                       (labels[:2] != 255) & (labels[:2] != 1))


@pytest.mark.parametrize('name', ['progress', 'main', 'warmed', 'gathering', 'labeler',
                                  'predictor', 'divisor', 'staged'])
def test_what_tools_ask_is_explained(name):
    assert len(getattr(SemiSegmentor, name).__doc__ or '') > 10
