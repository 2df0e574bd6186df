"""GTA-Seg against a second implementation; who learns from what, and what is passed on."""
from __future__ import annotations

import numpy as np
import pytest
import straight
import tiny
import torch

from mmseg_esl.functional import percentile, weighted_cross_entropy
from mmseg_esl.semi import Batch
from mmseg_esl.storage.keys import to_plain

CLASSIFIER = ('sep_bottleneck', 'conv_seg')


def model_of(classifier=CLASSIFIER, seg=None, **keys):
    cfg = dict(tiny.method_cfg('GTASeg', seg, **keys), classifier=classifier)
    return tiny._built(cfg, 1.0, True)


def settled(**keys):
    return straight.settle(model_of(**keys).double())


def shared(name, classifier=CLASSIFIER):
    return not name.startswith(tuple(f'decode_head.{part}.' for part in classifier))


class Net(straight.Net):
    @torch.no_grad()
    def take(self, other, momentum, classifier=CLASSIFIER):
        theirs = dict(other.net.named_parameters())
        for name, p in self.net.named_parameters():
            if shared(name, classifier):
                p.copy_(momentum * p + (1 - momentum) * theirs[name])

    @torch.no_grad()
    def follow_parameters(self, other, momentum):
        theirs = dict(other.net.named_parameters())
        for name, p in self.net.named_parameters():
            p.copy_(momentum * p + (1 - momentum) * theirs[name])


@pytest.mark.parametrize('classifier', [CLASSIFIER, ('conv_seg',)])
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_against_a_straight_line(mode, classifier):
    as_released = mode == 'train'
    model = settled(classifier=classifier, ema_momentum=0.6, unlabeled_weight=0.8,
                    teacher_mode=mode, ema_buffers=not as_released)
    model.train()
    nets = {name: Net(getattr(model, name)) for name in model.roles}
    student, assistant, teacher = nets.values()

    def reference(number, images, labels, views):
        boxes, = views
        pseudo, _ = straight.best(teacher.frozen(images[2:]))
        mixed = torch.cat([images[:2], straight.cut(boxes, images[2:])])
        pseudo, valid = straight.cut(boxes, pseudo), straight.cut(boxes, labels[2:] != 255)
        with torch.no_grad():  # in train mode: batches of labelled and mixed images
            logits = teacher(mixed)[2:] if as_released else teacher.frozen(mixed[2:])
        _, sure = straight.best(logits)
        bound = np.percentile(sure[valid].numpy(), 20)
        loss, total = 0, 0.0
        each = straight.entropies(assistant(mixed)[2:], pseudo)
        for b, y, x in valid.nonzero().tolist():
            c = float(sure[b, y, x])
            total += 1 + (c if c > bound else 0)
            if c > bound:
                loss = loss + (c + 1) * each[b, y, x]
        losses = {'decode.loss_ce': straight.supervised(student(mixed)[:2], labels[:2]),
                  'loss_assistant': 0.8 * loss / total}
        found = straight.stepped(losses, student, assistant)
        momentum = min(1 - 1 / (number + 1), 0.6)
        (teacher.follow_parameters if as_released else teacher.follow)(student, momentum)
        student.take(assistant, momentum, classifier)
        return found

    straight.compare(model, reference, nets)


def test_weights_of_four_pixels():
    """Confidences .5 .6 .8 .9, of which the 20th percentile is .56; a dropped one counts 1."""
    sure = torch.tensor([0.5, 0.6, 0.8, 0.9], dtype=torch.float64).view(1, 1, 4)
    kept = sure > percentile(sure, 0.2)
    assert float(percentile(sure, 0.2)) == pytest.approx(0.56)
    assert kept.flatten().tolist() == [False, True, True, True]
    weights, total = (sure + 1) * kept, (sure * kept + 1).sum()
    shares = (weights / total).flatten().tolist()
    assert shares == pytest.approx([0, 0.25397, 0.28571, 0.30159], abs=1e-5)
    # the three lines of the release
    logits = torch.randn(1, 3, 1, 4, dtype=torch.float64)
    labels = torch.tensor([[[255, 0, 2, 1]]])
    each = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255, reduction='none')
    conf = sure * kept
    conf = (conf + 1) / (conf + 1).sum() * kept.sum()
    want = 4 / float(kept.sum()) * torch.mean(conf * each)
    found = weighted_cross_entropy(logits, labels, weights, total)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)


def test_who_learns_from_what():
    model = model_of()
    losses = model.loss(*tiny.batch())
    assert [key for key in losses if 'loss' in key] == ['decode.loss_ce', 'loss_assistant']
    losses['loss_assistant'].backward(retain_graph=True)
    for name in ('student', 'teacher'):
        assert all(p.grad is None for p in getattr(model, name).parameters())
    assert any(p.grad.any() for p in model.assistant.parameters())
    model.zero_grad(set_to_none=True)
    losses['decode.loss_ce'].backward()
    assert all(p.grad is None for p in model.assistant.parameters())
    assert any(p.grad.any() for p in model.student.parameters())


def train(model, steps):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
    for number in range(steps):
        model.iter = number
        optimizer.zero_grad()
        tiny.total(model.loss(*tiny.batch(seed=number))).backward()
        optimizer.step()
        model.after_optimizer_step(number)


def test_the_students_classifier_never_sees_a_pseudo_label():
    """It steps as in supervised training on the same images; all else moves to the assistant's."""
    model = model_of(cutmix_prob=0.0)
    alone = tiny.method('Supervised', sharp=1.0)
    alone.student.load_state_dict(model.student.state_dict())
    inputs, samples = tiny.batch()
    # its batch norm has the same company
    losses, _, _ = alone.train_on(Batch.of(inputs, samples), inputs[2:])
    tiny.total(losses).backward()
    torch.optim.SGD(alone.student.parameters(), 0.05).step()
    train(model, 1)
    own, stepped = dict(model.student.named_parameters()), dict(alone.student.named_parameters())
    theirs, teacher = (dict(getattr(model, name).named_parameters())
                       for name in ('assistant', 'teacher'))
    for name, p in own.items():
        # the first transfer is a copy, the teacher's first step one of the student before it
        want = theirs[name] if shared(name) else stepped[name]
        torch.testing.assert_close(p, want, rtol=0, atol=1e-7)
        torch.testing.assert_close(teacher[name], stepped[name], rtol=0, atol=1e-7)
    assert not any(torch.equal(own[name], theirs[name]) for name in own if not shared(name))


def pointers(*nets):
    found = [t.data_ptr() for net in nets for t in (*net.parameters(), *net.buffers())
             if t.numel()]
    return len(found), len(set(found))


def test_no_storage_is_shared():
    model = model_of(warmup_iters=1)
    for steps in (0, 1, 2):
        train(model, steps)
        every, distinct = pointers(model.student, model.assistant, model.teacher)
        assert every == distinct
    model.load_state_dict(to_plain(model.state_dict(), 'teacher'), strict=False)
    every, distinct = pointers(model.student, model.assistant, model.teacher)
    assert every == distinct  # filled by one file
    again = model_of()
    again.load_state_dict(model.state_dict())  # as a resumed run
    every, distinct = pointers(again.student, again.assistant, again.teacher, model)
    assert every == distinct


def test_the_three_start_as_one():
    model = model_of()
    a, b, c = (getattr(model, name).state_dict() for name in model.roles)
    assert all(torch.equal(a[key], b[key]) and torch.equal(a[key], c[key]) for key in a)


def test_in_the_warm_up_the_assistant_is_a_copy():
    model = model_of(warmup_iters=2)
    train(model, 2)
    for a, b in zip(model.student.state_dict().values(), model.assistant.state_dict().values()):
        assert torch.equal(a, b)
    losses = model.loss(*tiny.batch())
    assert 'loss_unused' in losses and 'loss_assistant' not in losses
    model.iter = 2
    assert 'loss_assistant' in model.loss(*tiny.batch())


def test_the_assistants_auxiliary_head_rests():
    model = model_of(seg=tiny.segmentor(auxiliary=True), auxiliary_loss=True)
    before = [p.clone() for p in model.assistant.auxiliary_head.parameters()]
    train(model, 1)
    assert all(not p.requires_grad for p in model.assistant.auxiliary_head.parameters())
    assert all(torch.equal(a, b)
               for a, b in zip(before, model.assistant.auxiliary_head.parameters()))
    assert not any(torch.equal(a, b) for a, b in zip(
        before, model.student.auxiliary_head.parameters()))


def test_of_a_cascade_the_last_head_is_meant():
    model = model_of(classifier=('conv_seg',), seg=tiny.cascade())
    kept = {name for name, _ in model.student.named_parameters()} - set(model.shared)
    assert kept == {'decode_head.1.conv_seg.weight', 'decode_head.1.conv_seg.bias'}


@pytest.mark.parametrize('keys, match', [
    (dict(dropped=1.5), 'dropped'),
    (dict(classifier=('conv_seg', 'none')), "part 'none'.*conv_seg")])
def test_bad_keys(keys, match):
    with pytest.raises(ValueError, match=match):
        model_of(**keys)
