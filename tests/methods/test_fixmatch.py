"""FixMatch against a second implementation, written from the paper's code description."""
from __future__ import annotations

import pytest
import straight
import tiny
import torch

TAU = 0.6


def build(**semi):
    return straight.settle(tiny.method('FixMatch', sharp=1.0, threshold=TAU, cutmix_prob=0.8,
                                       **semi).double())


@pytest.mark.parametrize('labels_by', ['student', 'teacher'])
def test_against_a_straight_line(labels_by):
    model = build(labels_by=labels_by, ema_momentum=0.4)
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    student, labeler, kept = nets['student'], nets[labels_by], []

    def reference(number, images, labels, views):
        (boxes, ), valid = views, labels[2:] != 255
        known, unknown = images[:2], images[2:]
        inside = straight.best(labeler.frozen(unknown))
        if labels_by == 'teacher':
            logits, pseudo = student(known), inside
        else:
            logits = student(torch.cat([known, unknown]))
            pseudo = straight.best(logits[2:])
        classes, sure = (straight.cut(boxes, a, b) for a, b in zip(pseudo, inside))
        counts = straight.cut(boxes, valid)
        ce = straight.entropies(student(straight.cut(boxes, unknown)), classes)
        kept.append(float((sure >= TAU).double().mean()))
        losses = {'decode.loss_ce': straight.supervised(logits[:2], labels[:2]) / 2,
                  'loss_u': (ce * (sure >= TAU) * counts).sum() / valid.sum() / 2}
        found = straight.stepped(losses, student)
        if labels_by == 'teacher':
            labeler.follow(student, min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)
    assert all(0.05 < share < 0.95 for share in kept)  # the threshold decides


def test_the_labelling_pass_leaves_no_trace():
    """Running statistics stay as they are, labels have no gradient."""
    model = build()
    before = {k: v.clone() for k, v in model.student.state_dict().items()}
    view = model.see('student', tiny.batch()[0].double(), mode='eval')
    assert not view.logits.requires_grad and model.student.training
    assert all(torch.equal(v, before[k]) for k, v in model.student.state_dict().items())


def test_a_threshold_that_nobody_reaches():
    model = build(labels_by='teacher')
    model.cfg.threshold = 1.1
    inputs, samples = tiny.batch()
    losses = model.loss(inputs.double(), samples)
    losses['loss_u'].backward()
    assert losses['loss_u'] == 0
    grads = [p.grad for p in model.student.parameters()]
    assert all(g is not None and not g.any() for g in grads)


@pytest.mark.parametrize('keys, name', [
    (dict(labels_by='nobody'), 'labels_by'), (dict(cutmix='none'), 'cutmix')])
def test_bad_keys(keys, name):
    with pytest.raises(ValueError, match=f'{name}.*{list(keys.values())[0]}'):
        build(**keys)


def test_draws_by_image_are_refused_where_the_step_does_not_key_them():
    with pytest.raises(ValueError, match="sampling must be 'batch', got 'image'"):
        tiny.method('FixMatch', sampling='image')


def test_boxes_all_over_flipped_partners_are_the_images_in_reverse(monkeypatch):
    """The strong view of image i, and what it is taught, are those of image B - 1 - i."""
    found = []
    for flip in (True, False):
        boxes = torch.full((3, 32, 32), flip)
        monkeypatch.setattr('mmseg_esl.models.views.cutmix_masks_by_image',
                            lambda *_, boxes=boxes, **__: boxes)
        model = build(labels_by='teacher', cutmix='image', cutmix_partner='flip')
        inputs, samples = tiny.batch(2, 3)
        if not flip:
            inputs = torch.cat([inputs[:2], inputs[2:].flip(0)])
        loss = model.loss(inputs.double(), samples)['loss_u']
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.student.parameters()
                                       if p.grad is not None)])
    assert found[0][0] > 0
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_an_average_of_no_memory_labels_as_the_student_of_the_step_before():
    """Momentum 0: the teacher is the student in eval mode, bit for bit."""
    model = build(labels_by='teacher', ema_momentum=0.0)
    optimizer = torch.optim.SGD(model.student.parameters(), 0.05)
    inputs, samples = tiny.batch()
    for number in range(2):
        optimizer.zero_grad()
        tiny.total(model.loss(inputs.double(), samples)).backward()
        optimizer.step()
        model.after_optimizer_step(number)
        teacher, own = (model.see(name, inputs[2:].double(), mode='eval').logits
                        for name in ('teacher', 'student'))
        assert torch.equal(teacher, own)
