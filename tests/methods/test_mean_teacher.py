"""Mean Teacher, both codes of the name, against second implementations, and against ESL."""
from __future__ import annotations

import pytest
import straight
import tiny
import torch


def apart(model):
    """A student that has left its teacher: otherwise there is nothing to learn from it."""
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.student.parameters():
            p += 0.1 * torch.randn(p.shape, generator=gen)
    return model


class Net(straight.Net):
    @torch.no_grad()
    def follow_parameters(self, other, momentum):
        for mine, theirs in zip(self.net.parameters(), other.net.parameters()):
            mine.copy_(momentum * mine + (1 - momentum) * theirs)


@pytest.mark.parametrize('as_released', [False, True])
def test_squares_against_a_straight_line(as_released):
    """The release's teacher is in training mode, too, and takes no statistics over."""
    keys = dict(teacher_mode='train', ema_buffers=False,
                ema_schedule='constant') if as_released else {}
    model = apart(tiny.method('MeanTeacher', sharp=1.0, ema_momentum=0.4, **keys)).double()
    student, teacher = (Net(getattr(model, name)) for name in ('student', 'teacher'))

    def reference(number, images, labels, views):
        assert views == []
        labeled, weak = student(images[:2]), student(images[2:])  # statistics of their own
        if as_released:
            with torch.no_grad():
                target = torch.cat([teacher(images[:2]), teacher(images[2:])])
        else:
            target = teacher.frozen(images)
        total, count = 0, 0
        for mine, theirs, label in zip([*labeled, *weak], target, labels):
            squares = ((mine.softmax(dim=0) - theirs.softmax(dim=0)) ** 2).sum(dim=0) / 3
            total, count = total + squares[label != 255].sum(), count + (label != 255).sum()
        losses = {'decode.loss_ce': straight.supervised(labeled, labels[:2]),
                  'loss_cons': 100 * total / count}
        found = straight.stepped(losses, student)
        follow = teacher.follow_parameters if as_released else teacher.follow
        follow(student, 0.4 if as_released else min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, {'student': student, 'teacher': teacher})


def test_classes_against_a_straight_line():
    model = apart(tiny.method('MeanTeacher', sharp=1.0, consistency='hard', ema_momentum=0.4,
                              ramp_iters=2)).double()
    student, teacher = (straight.Net(getattr(model, name)) for name in ('student', 'teacher'))

    def reference(number, images, labels, views):
        assert views == []
        classes, _ = straight.best(teacher.frozen(images[2:]))
        logits, valid = student(images), labels[2:] != 255
        ce = straight.entropies(logits[2:], classes)
        losses = {'decode.loss_ce': straight.supervised(logits[:2], labels[:2]),
                  'loss_cons': (0.5, 1, 1)[number] * ce[valid].sum() / valid.sum()}
        found = straight.stepped(losses, student)
        teacher.follow(student, min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, {'student': student, 'teacher': teacher})


def test_classes_are_esl_with_hard_labels():
    """Weight 1, no box, no contrast."""
    found = []
    for kind, keys in (('MeanTeacher', dict(consistency='hard')),
                       ('ESL', dict(variant='hard', sce_weight=1.0, cutmix_prob=0.0))):
        model = apart(tiny.method(kind, sharp=1.0, **keys)).double()
        inputs, samples = tiny.batch(2, 3)
        losses = model.loss(inputs.double(), samples)
        tiny.total(losses).backward()
        term = losses['loss_cons' if kind == 'MeanTeacher' else 'loss_sce']
        found.append((term.detach(), losses['decode.loss_ce'].detach(),
                      *(p.grad for p in model.student.parameters()),
                      *model.student.buffers()))
    assert found[0][0] > 0
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_networks_that_agree_have_nothing_to_learn():
    model = tiny.method('MeanTeacher', sharp=1.0).double().eval()
    inputs, samples = tiny.batch()
    losses = model.loss(inputs.double(), samples)
    assert losses['loss_cons'] < 1e-20
    assert apart(model).loss(inputs.double(), samples)['loss_cons'] > 1e-3


@pytest.mark.parametrize('momentum', [0.0, 1.0])
def test_extreme_momenta(momentum):
    model = apart(tiny.method('MeanTeacher', ema_momentum=momentum, ema_schedule='constant'))
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.loss(*tiny.batch())
    model.after_optimizer_step(0)
    student, teacher = model.student.state_dict(), model.teacher.state_dict()
    for key, value in teacher.items():
        copied = momentum == 0 or not value.is_floating_point()
        assert torch.equal(value, student[key] if copied else before[key]), key
    assert not torch.equal(student['backbone.stem.0.weight'], before['backbone.stem.0.weight'])


def test_the_weight_is_that_of_the_kind():
    parse = tiny.MODELS.get('MeanTeacher').parse_cfg
    assert parse({}).consistency_weight == 100
    assert parse(dict(consistency='hard')).consistency_weight == 1
    assert parse(dict(consistency='hard', consistency_weight=3)).consistency_weight == 3
    with pytest.raises(ValueError, match="consistency.*'soft'"):
        parse(dict(consistency='soft'))
