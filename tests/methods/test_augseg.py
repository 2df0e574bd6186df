"""AugSeg against a second implementation; what the injection decides."""
from __future__ import annotations

import math

import pytest
import straight
import tiny
import torch

from mmseg_esl.functional import draw_injection, pseudo_cross_entropy

TAU = 0.6


def build(seg=None, **semi):
    return straight.settle(tiny.method('AugSeg', seg, sharp=1.0, threshold=TAU, **semi).double())


def certainty(logits, valid):
    """Of each image, from probabilities."""
    out = []
    for image, there in zip(logits.softmax(dim=1), valid):
        entropy = -(image * (image + 1e-300).log()).sum(dim=0) / math.log(len(image))
        out.append(((1 - entropy) * image.amax(dim=0))[there].mean())
    return torch.stack(out)


def injected(drawn, x, labeled):
    """The release's two steps, image by image."""
    partner, mixed, out = drawn.partner.tolist(), x.clone(), x.clone()
    for i, patch in enumerate(drawn.patches):
        mixed[i] = torch.where(patch, labeled[partner[i] % len(labeled)], x[i])
    for i, box in enumerate(drawn.boxes):
        out[i] = torch.where(box, mixed[partner[i]], x[i])
    return out


@pytest.mark.parametrize('extra_weak', [False, True])
def test_against_a_straight_line(extra_weak):
    model = build(ema_momentum=0.4, extra_weak=extra_weak, unlabeled_weight=0.7, copy_steps=2)
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    student, teacher, kept, patched = nets['student'], nets['teacher'], [], []

    def reference(number, images, labels, views):
        known, unknown, valid = images[:2], images[2:], labels[2:] != 255
        logits = teacher.frozen(unknown)
        classes, confidence = straight.best(logits)
        drawn = draw_injection(certainty(logits, valid), (32, 32))
        strong = injected(drawn, unknown, known)
        classes = injected(drawn, classes, labels[:2])
        confidence = injected(drawn, confidence, torch.ones(2, 32, 32).double())
        counts = injected(drawn, valid, torch.ones(2, 32, 32).bool()) & (classes != 255)
        joint = [known, unknown, strong] if extra_weak else [known, strong]
        logits = student(torch.cat(joint))
        ce = straight.entropies(logits[-3:], classes)
        sure = confidence >= TAU
        kept.append(float(sure.double().mean()))
        patched.append(bool((drawn.patches[drawn.partner] & drawn.boxes).any()))
        losses = {'decode.loss_ce': straight.supervised(logits[:2], labels[:2]),
                  'loss_u': 0.7 * (ce * sure * counts).sum() / counts.sum()}
        found = straight.stepped(losses, student)
        teacher.follow(student, 0 if number < 2 else min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)
    assert all(0.05 < share < 0.95 for share in kept) and any(patched)


def test_the_divisor_is_all_pixels_where_all_count():
    """B * H * W: the loss of a single kept pixel is its cross entropy over that."""
    model = build().eval()
    model.cfg.threshold = 0.0
    inputs, samples = tiny.batch(2, 2, ignored=0)
    torch.manual_seed(1)
    every = model.loss(inputs.double(), samples)['loss_u']
    seen = []
    head = model.student.decode_head
    head.register_forward_hook(lambda module, args, out: seen.append(out[2:]))
    torch.manual_seed(1)
    model.loss(inputs.double(), samples)
    logits = model.see('teacher', inputs[2:].double()).logits
    torch.manual_seed(1)
    drawn = draw_injection(certainty(logits, torch.ones(2, 32, 32).bool()), (32, 32))
    known = torch.stack([s.gt_sem_seg.data[0] for s in samples[:2]])
    classes = injected(drawn, logits.argmax(dim=1), known)
    out = torch.nn.functional.interpolate(seen[0], (32, 32), mode='bilinear')
    want = straight.entropies(out, classes).sum() / (2 * 32 * 32)
    torch.testing.assert_close(every, want, rtol=1e-10, atol=0)


def test_teacher_is_a_copy_in_the_first_epoch():
    model = build(copy_steps=3, ema_schedule='constant', ema_momentum=0.9)
    weight, copy = model.student.decode_head.conv_seg.weight, model.teacher.decode_head.conv_seg
    for step in range(5):
        old = copy.weight.clone()
        with torch.no_grad():
            weight += 1
        assert model.after_optimizer_step(step) == (0.0 if step < 3 else 0.9)
        want = weight if step < 3 else 0.9 * old + 0.1 * weight
        torch.testing.assert_close(copy.weight.data, want.data, rtol=0, atol=1e-12)


def test_colours_are_the_students_alone():
    """The teacher sees the weak view; labelled images and patches keep their colours."""
    cfg = dict(tiny.method_cfg('AugSeg'), strong_view=dict(
        type='RandomIntensity', operations=['solarize']))
    tiny.init_default_scope('mmseg')
    torch.manual_seed(0)
    model = tiny.MODELS.build(tiny.ConfigDict(cfg)).train()
    model.driven = True
    seen, patched = {}, 0
    for name in model.roles:
        getattr(model, name).backbone.register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[0]}))
    inputs, samples = tiny.batch(2, 3)
    for seed in range(6):
        torch.manual_seed(seed)
        model.loss(inputs, samples)
        assert torch.equal(seen['teacher'], inputs[2:])
        assert torch.equal(seen['student'][:2], inputs[:2]) and len(seen['student']) == 5
        strong = seen['student'][2:] * 127.5 + 127.5
        from_labeled = (seen['student'][2:, None] == inputs[None, :2]).all(dim=2).any(dim=1)
        whole = (strong - strong.round()).abs().amax(dim=1) < 1e-3  # 8 bits: recoloured
        assert (whole ^ from_labeled).all()
        patched += int(from_labeled.sum())
    assert patched > 100


@pytest.mark.parametrize('keys, message', [(dict(copy_steps=-1), 'copy_steps.*negative')])
def test_bad_keys(keys, message):
    with pytest.raises(ValueError, match=message):
        build(**keys)


def test_a_threshold_below_all_keeps_all_but_what_has_no_label(monkeypatch):
    """Padding of unlabelled images, and 255 in what is injected of labelled ones."""
    seen = []

    def keeping(logits, labels, keep, valid, **kwargs):
        seen.append((keep, valid))
        return pseudo_cross_entropy(logits, labels, keep, valid, **kwargs)

    monkeypatch.setattr('mmseg_esl.methods.augseg.pseudo_cross_entropy', keeping)
    model = build()
    model.cfg.threshold = -1.0
    inputs, samples = tiny.batch(2, 2, ignored=5)
    model.loss(inputs.double(), samples)
    (keep, valid), = seen
    assert keep.all() and valid[..., :-5].all() and not valid[..., -5:].any()
