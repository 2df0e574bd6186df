"""PS-MT against a second implementation, written from its code's description."""
from __future__ import annotations

import copy
import math

import every
import pytest
import straight
import tiny
import torch

from mmseg_esl.models.decoder_tail import DecoderTail

TAU, TOP, RADIUS, XI = 0.55, 2, 1.5, 0.1


def fcn():
    """Its features are the backbone's, its decoder a convolution block and the classifier."""
    return tiny.segmentor(decode_head=tiny.fcn(4))


def build(seg=None, **semi):
    semi = {**dict(threshold=TAU, top_logits=TOP, vat_radius=RADIUS, epoch_iters=2), **semi}
    model = tiny.method('PSMT', seg or fcn(), 4, sharp=1.0, **semi).double()
    straight.settle(model)
    gen = torch.Generator().manual_seed(3)
    for name in ('teacher', 'teacher2'):  # that differ
        for p in getattr(model, name).parameters():
            p.data += 0.05 * torch.randn(p.shape, generator=gen)
    return model


class Net(straight.Net):
    def decoder(self, feats):
        head = self.net.decode_head
        return head.conv_seg(head.convs(feats))

    def still(self, feats):
        """Logits in eval mode."""
        head = copy.deepcopy(self.net.decode_head).eval()
        return head.conv_seg(head.convs(feats))


def noise(feats, valid, teachers):
    """By the page: one power step, KL with the mean of the teachers' decoders; no padding."""
    feats = feats.detach()
    start = torch.rand(feats.shape, dtype=torch.float64) - 0.5
    start = torch.stack([d / (d.pow(2).sum().sqrt() + 1e-8) for d in start]).requires_grad_()
    before, after = (sum(t.still(x) for t in teachers) / 2 for x in (feats, feats + XI * start))
    q, p = before.softmax(1).detach(), after.softmax(1)
    each = (q * (q.log() - p.log())).sum(1)[valid[:, 4::8, 4::8]]  # nearest of stride 8
    slope, = torch.autograd.grad(each.sum() / len(feats), start)
    return torch.stack([RADIUS * g / (g.pow(2).sum().sqrt() + 1e-8) for g in slope])


def test_against_a_straight_line():
    model = build(unlabeled_weight=2.0, ramp_iters=8, ema_momentum=0.4)
    nets = {name: Net(getattr(model, name)) for name in model.roles}
    student, one, two = nets.values()
    shares = []

    def confused(images, valid):
        feats = student.net.backbone(images)[3]
        feats = feats + noise(feats, valid, (one, two))
        return straight.F.interpolate(student.decoder(feats), (32, 32), mode='bilinear')

    def reference(number, images, labels, views):
        (boxes, ), known, unknown = views, images[:2], images[2:]
        core, assist = (one, two) if number < 2 else (two, one)  # epochs of two iterations
        a, b = core.frozen(unknown), assist.frozen(unknown)
        target = torch.empty_like(a)
        for n, y, x in torch.ones_like(a[:, 0]).nonzero().tolist():
            best = sorted(range(4), key=lambda c: -b[n, c, y, x])[:TOP]
            for c in range(4):
                other = b if c in best else a
                target[n, c, y, x] = (a[n, c, y, x] + other[n, c, y, x]) / 2
        target, valid = straight.cut(boxes, target), straight.cut(boxes, labels[2:] != 255)
        torch.rand(7), torch.rand(2, 3)  # the boxes' numbers
        supervised = straight.supervised(confused(known, labels[:2] != 255), labels[:2])
        logits = confused(straight.cut(boxes, unknown), valid)
        classes, weight = straight.best(target)
        keep = (weight >= TAU) & valid
        shares.append(float(keep.double().mean()))
        term = (weight * straight.entropies(logits, classes))[keep].mean()
        rise = (1 - math.cos(math.pi * (number + 1) / 8)) / 2
        found = straight.stepped(
            {'decode.loss_ce': supervised, 'loss_u': 2 * rise * term}, student)
        core.follow(student, 0.4)
        return found

    straight.compare(model, reference, nets)
    assert all(0.05 < share < 0.95 for share in shares), shares  # the threshold decides


# --------------------------------------------------------------------------------------- turns


@pytest.mark.parametrize('at, moves', [(0, 'teacher'), (4, 'teacher'), (5, 'teacher2'),
                                       (9, 'teacher2'), (10, 'teacher')])
def test_one_teacher_follows_and_the_other_rests(at, moves):
    model = build(epoch_iters=5, ema_momentum=0.996)
    model.iter = at
    old = {name: every.part(model, name) for name in model.roles}
    assert model.after_optimizer_step(at) == 0.996
    for name in ('teacher', 'teacher2'):
        for key, value in every.part(model, name).items():
            if name != moves:
                assert torch.equal(value, old[name][key])
            elif value.is_floating_point():
                want = 0.996 * old[name][key] + 0.004 * old['student'][key]
                torch.testing.assert_close(value, want, rtol=0, atol=1e-12)
    assert every.differing(old[moves], every.part(model, moves))


def test_turns_of_one_iteration():
    model = build(epoch_iters=1, warmup_iters=2)
    turns = [model.turns for model.iter in range(5)]
    one, two = ('teacher', 'teacher2'), ('teacher2', 'teacher')
    assert turns == [one, one, one, two, one]


def test_the_warm_up_ends_with_copies():
    model = build(warmup_iters=3, epoch_iters=2)
    turns = []
    for model.iter in range(8):
        losses = model.loss(*double(tiny.batch(num_classes=4)))
        assert ('loss_u' in losses) == (model.iter >= 3)
        model.after_optimizer_step(model.iter)
        turns.append(model.turns[0])
        if model.iter < 3:
            for name in ('teacher', 'teacher2'):
                assert every.differing(every.part(model, name), every.part(model, 'student')) == []
    assert turns[3:] == ['teacher', 'teacher', 'teacher2', 'teacher2', 'teacher']


def double(batch):
    return batch[0].double(), batch[1]


# --------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize('seg', [None, tiny.segmentor(4)])
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_noise_leaves_no_trace_on_the_teachers(seg, mode):
    model = build(seg, vat_radius=2.0, teacher_mode=mode)
    if mode == 'train':  # what labels moves their statistics, the noise does not
        model.train()
        twin = copy.deepcopy(model)
        for name in ('teacher', 'teacher2'):
            twin.see(name, tiny.batch(num_classes=4)[0][2:].double())
        want = {name: every.part(twin, name) for name in ('teacher', 'teacher2')}
    else:
        want = {name: every.part(model, name) for name in ('teacher', 'teacher2')}
    losses = model.loss(*double(tiny.batch(num_classes=4)))
    tiny.total(losses).backward()
    for name in ('teacher', 'teacher2'):
        assert every.differing(want[name], every.part(model, name)) == []
        net = getattr(model, name)
        assert all(p.grad is None for p in net.parameters())
        assert all(m.training == (mode == 'train') for m in net.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_noise_is_as_long_as_it_says(monkeypatch):
    """Of each image, labelled ones too, on the way into the last layers."""
    found = []
    model = build(tiny.segmentor(4), vat_radius=2.0).float()

    def watch(module, args):
        found.append(args[0])

    # hooks run in the order in which they come: this one before the noise is added, and after
    before = model.student.decode_head.sep_bottleneck.register_forward_pre_hook(watch)
    first = model.student.decode_head.sep_bottleneck[0].register_forward_pre_hook(watch)
    model.loss(*tiny.batch(num_classes=4))
    before.remove(), first.remove()
    assert model.tail.name == 'sep_bottleneck' and len(found) == 4
    for plain, noisy in (found[:2], found[2:]):
        lengths = (noisy - plain).flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((2,), 2.0), rtol=1e-2, atol=0)


def test_runs_of_the_tails(monkeypatch):
    """Both teachers' twice for each image, once with a gradient for the noise alone."""
    runs, model = [], build()
    call = DecoderTail.__call__

    def counted(self, net, features):
        runs.append((len(features), features.requires_grad, net is model.student))
        return call(self, net, features)

    monkeypatch.setattr(DecoderTail, '__call__', counted)
    model.loss(*double(tiny.batch(2, 3, 4)))
    assert runs == [(n, grad, False) for n in (2, 3) for grad in (False, False, True, True)]


def test_without_noise():
    """The same losses as those of noise of no length."""
    found = []
    for radius in (0.0, 1e-12):
        model = build(vat_radius=radius)
        assert (model.tail is None) == (radius == 0)
        torch.manual_seed(1)
        losses = model.loss(*double(tiny.batch(num_classes=4)))
        found.append([float(losses[key].detach()) for key in ('decode.loss_ce', 'loss_u')])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


# -------------------------------------------------------------------------- labels and views


@pytest.mark.parametrize('top', [1, 4])
def test_equal_teachers_label_as_one_does(top):
    """Whatever the number of classes for which the second one speaks: a single mean teacher."""
    model = build(vat_radius=0.0, top_logits=top, unlabeled_weight=1.0, cutmix='batch',
                  cutmix_prob=0.0).eval()
    model.teacher2.load_state_dict(model.teacher.state_dict())
    images, samples = double(tiny.batch(num_classes=4))
    found = model.loss(images, samples)['loss_u']
    classes, weight = straight.best(straight.Net(model.teacher)(images[2:]))
    labels = torch.stack([s.gt_sem_seg.data[0] for s in samples[2:]])
    keep = (weight >= TAU) & (labels != 255)
    each = straight.entropies(straight.Net(model.student)(images[2:]), classes)
    torch.testing.assert_close(found, (weight * each)[keep].mean(), rtol=1e-10, atol=0)
    assert 0 < keep.sum() < keep.numel()


def test_nobody_sure_is_a_connected_zero():
    model = build(threshold=1.1)
    losses = model.loss(*double(tiny.batch(num_classes=4)))
    assert losses['loss_u'] == 0
    losses['loss_u'].backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.student.parameters())


def test_labelled_images_have_other_colours():
    class Dark(torch.nn.Module):
        def forward(self, images):
            return images * 0.5

    model, inputs = build(vat_radius=0.0).eval(), tiny.batch(num_classes=4)
    model.data_preprocessor._enable_normalize = False
    want = model.loss(inputs[0].double() * 0.5, inputs[1])['decode.loss_ce']
    model.strong_view = Dark()
    for model.iter, model.cfg.warmup_iters in ((0, 0), (0, 1)):
        got = model.loss(*double(inputs))
        torch.testing.assert_close(got['decode.loss_ce'], want)
        assert ('loss_u' in got) == (model.cfg.warmup_iters == 0)


# -------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_both_predict_the_mean_of_their_logits(mode):
    seg = tiny.segmentor(4)
    seg['test_cfg'] = dict(mode=mode, crop_size=(32, 32), stride=(16, 16))
    model = tiny.method('PSMT', seg, 4, sharp=1.0, test_cfg=dict(predict_on='both'))
    gen = torch.Generator().manual_seed(1)
    for p in model.teacher2.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=gen)
    images, samples = tiny.batch(2, 0, 4, size=48)
    model.eval()
    with torch.no_grad():
        found = [[s.seg_logits.data for s in net(images, copy.deepcopy(samples), mode='predict')]
                 for net in (model, model.teacher, model.teacher2)]
    for mean, one, two in zip(*found):
        torch.testing.assert_close(mean, (one + two) / 2)
        assert not torch.equal(one, two)
    assert 'encode_decode' not in vars(model.teacher)


@pytest.mark.parametrize('keys, name', [
    (dict(epoch_iters=0), 'epoch_iters'), (dict(xi=0), 'xi'), (dict(vat_radius=-1), 'vat_radius'),
    (dict(ramp_shape='step'), 'ramp_shape')])
def test_bad_keys(keys, name):
    with pytest.raises(ValueError, match=f'{name}.*{list(keys.values())[0]}'):
        tiny.method('PSMT', **keys)
