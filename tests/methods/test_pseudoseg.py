"""PseudoSeg against a second implementation; who learns from which term."""
from __future__ import annotations

import every
import pytest
import straight
import tiny
import torch
import torch.nn.functional as F

HOLE = 11


class Maps(straight.Net):
    """A copy of the attention's layers, run image by image."""

    def __call__(self, stages, valid, shown=None):
        valid, last = valid[:, 4::8, 4::8], stages[-1]  # the stride is 8
        pooled = torch.stack([f[:, v].mean(dim=1) for f, v in zip(last, valid)])
        scores = pooled @ self.net.classifier.weight.T + self.net.classifier.bias
        shown = scores.sigmoid() >= 0.5 if shown is None else shown
        maps = [self.spread(*each) for each in zip(last, stages[-2], valid, shown)]
        mixed = torch.einsum('ck,nkhw->nchw', self.net.mixing.weight[:, :, 0, 0],
                             torch.stack(maps))
        return scores, self.net.norm(mixed)

    def spread(self, last, before, valid, shown):
        cam = torch.einsum('kd,dhw->khw', self.net.classifier.weight, last).relu().detach()
        cam = cam * valid * shown[:, None, None]
        cam = torch.stack([one / one.max() if one.max() > 0 else one for one in cam]).flatten(1)
        x = torch.cat([before, last]).detach().flatten(1)
        query, key = (layer.weight[:, :, 0, 0] @ x for layer in (self.net.query, self.net.key))
        rows = []
        for i, known in enumerate(valid.flatten().tolist()):
            scores = query[:, i] @ key / key.size(0) ** 0.5
            if known:
                weight = torch.where(valid.flatten(), scores, -torch.inf).softmax(dim=0)
            else:
                weight = torch.full_like(scores, 1 / len(scores))
            rows.append(cam @ weight)
        s = torch.stack(rows, dim=1) + cam
        return torch.cat([2 - s.amax(dim=0, keepdim=True), s]).unflatten(1, last.shape[1:])

    @torch.no_grad()
    def frozen(self, stages, valid):
        self.net.eval()
        out = self(stages, valid)
        self.net.train()
        return out[1]


def up(x, size):
    return F.interpolate(x, (size, size), mode='bilinear', align_corners=False)


def build(**keys):
    model = tiny.method('PseudoSeg', **{'cutout': HOLE, 'sharp': 1.0, **keys}).double()
    assert model.attention.dropout.p == 0.5
    model.attention.dropout.p = 0.0
    return model


def test_against_a_straight_line():
    model = build(unlabeled_weight=0.7, sgc_weight=0.6, cls_weight=1.3, fusion=0.4,
                  temperature=0.8)
    student, maps, holes = straight.Net(model.student), Maps(model.attention), []

    def reference(number, images, labels, views):
        (boxes,), losses = views, {}
        assert not boxes.any()
        known, labeled, weak = labels[:2] != 255, images[:2], images[2:]
        stages = student.encode(labeled)
        losses['decode.loss_ce'] = straight.supervised(student.decode(stages), labels[:2])
        shown = torch.tensor([[bool((label == c).any()) for c in (1, 2)] for label in labels[:2]])
        scores, g = maps(stages[-2:], known, shown)
        losses['loss_sgc'] = 0.6 * straight.entropies(up(g, 32), labels[:2])[known].mean()
        p = scores.sigmoid()
        losses['loss_cls'] = -1.3 * torch.where(shown, p.log(), (1 - p).log()).mean()
        valid = labels[2:] != 255
        small = valid[:, 2::4, 2::4]  # the decoder's stride is 4
        with torch.no_grad():
            z = student.net.decode_head(student.encode(weak))
            student.net.eval()
            g = up(maps.frozen(student.encode(weak)[-2:], valid), 8)
            student.net.train()
            pair = torch.stack([z, g]).movedim(2, -1)[:, small]
            r = (pair.square().mean() + 1e-8).sqrt()
            target = 0.4 * (z / r).softmax(dim=1) + 0.6 * (g / r).softmax(dim=1)
            target = target ** (1 / 0.8)
            target = target / target.sum(dim=1, keepdim=True)
        torch.rand(()), torch.rand(3, len(weak))  # boxes that nobody wants
        draw, strong, small = torch.rand(2, len(weak)), weak.clone(), small.clone()
        for i in range(len(weak)):
            top, left = (int(d * 32) - HOLE // 2 for d in draw[:, i])
            hole = torch.zeros(32, 32, dtype=torch.bool)
            hole[max(top, 0):top + HOLE, max(left, 0):left + HOLE] = True
            strong[i, :, hole] = 0
            small[i] &= ~hole[2::4, 2::4]
        logits = student.net.decode_head(student.encode(strong))
        entropy = -(target * logits.log_softmax(dim=1)).sum(dim=1)
        losses['loss_u'] = 0.7 * entropy[small].mean()
        holes.append(float((~small).double().mean()))
        return straight.stepped(losses, student, maps)

    straight.compare(model, reference, {'student': student, 'attention': maps})
    assert all(0.02 < share < 0.6 for share in holes)


def reached(loss, *modules):
    params = [p for module in modules for p in module.parameters()]
    grads = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
    return sum(bool(g.any()) for g in grads if g is not None)


def test_which_term_reaches_whom():
    model = build()
    inputs, samples = tiny.batch()
    losses = model.loss(inputs.double(), samples)
    encoder, head = model.student.backbone, model.student.decode_head
    extra = model.attention
    spread = (extra.query, extra.key, extra.mixing, extra.norm)
    assert not reached(losses['loss_sgc'], encoder, head, extra.classifier)
    assert reached(losses['loss_sgc'], *spread) == 5
    assert not reached(losses['loss_cls'], head, *spread)
    assert reached(losses['loss_cls'], encoder) and reached(losses['loss_cls'], extra.classifier)
    assert not reached(losses['loss_u'], extra)
    assert reached(losses['loss_u'], encoder) and reached(losses['loss_u'], head)


def test_the_label_comes_of_weak_pixels_without_gradient():
    """With nothing else of the weak images in the strong ones, none reaches them."""
    model = build().eval()
    model.strong = lambda weak: type('Strong', (), dict(
        images=torch.zeros_like(weak), mix=staticmethod(lambda x, **_: x)))
    inputs, samples = tiny.batch()
    images = inputs.double().requires_grad_()
    grad, = torch.autograd.grad(model.loss(images, samples)['loss_u'], images, allow_unused=True)
    assert grad is None


def test_what_the_hole_held_does_not_matter():
    model = build(cutout=16).eval()
    inputs, samples = tiny.batch()
    strong, added = model.strong, [0.0, 3.0, 0.0, 3.0]

    def changed(weak):
        view, more = strong(weak), added.pop(0)
        hole = holes(len(weak))[:, None]
        return type(view)(torch.where(hole, view.images + more, view.images), view.boxes)

    def holes(num):
        state = torch.get_rng_state()
        draw = torch.rand(2, num)
        torch.set_rng_state(state)
        rows = torch.arange(32)
        top, left = ((d * 32).floor()[:, None] - 8 for d in draw)
        return ((rows >= top) & (rows < top + 16))[:, :, None] & \
            ((rows >= left) & (rows < left + 16))[:, None]

    def loss(cutout):
        torch.manual_seed(1)
        model.cfg.cutout = cutout
        return float(model.loss(inputs.double(), samples)['loss_u'].detach())

    model.strong = changed
    assert loss(16) == loss(16) > 0
    assert loss(0) != loss(0)  # without a hole, what is there counts


def test_labelling_leaves_no_trace():
    model = build()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images, valid = tiny.batch(0, 3)[0].double(), torch.ones(3, 32, 32, dtype=torch.bool)
    label = model._label(torch.randn(3, 3, 8, 8).double(), images, valid)
    torch.testing.assert_close(label.sum(dim=1), torch.ones(3, 8, 8).double())
    assert every.differing(before, model.state_dict()) == []
    assert all(m.training for m in model.student.modules())
    with pytest.raises(RuntimeError):
        model._label(torch.randn(3, 3, 8, 8).double(), images[:, :1], valid)
    assert all(m.training for m in (*model.student.modules(), *model.attention.modules()))


def test_no_class_is_seen():
    """The classifier is sure of nothing: background everywhere, and the step is finite."""
    model = build()
    torch.nn.init.constant_(model.attention.classifier.bias, -100.0)
    stages = [torch.randn(1, n, 4, 4).double() for n in (32, 64)]
    seen = []
    model.attention.mixing.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    model.attention(stages, torch.ones(1, 32, 32, dtype=torch.bool))
    assert (seen[0][:, 0] == 2).all() and not seen[0][:, 1:].any()
    assert tiny.total(model.loss(tiny.batch()[0].double(), tiny.batch()[1])).isfinite()


@pytest.mark.parametrize('background, classes', [(True, 2), (False, 3)])
def test_with_and_without_a_background(background, classes):
    model = build(background=background)
    assert model.attention.classifier.out_features == classes
    stages = [torch.randn(2, n, 4, 4).double() for n in (32, 64)]
    scores, logits = model.attention(stages, torch.ones(2, 32, 32, dtype=torch.bool))
    assert scores.shape == (2, classes) and logits.shape == (2, 3, 4, 4)


def test_images_without_labels_are_not_classified():
    model = build()
    inputs, samples = tiny.batch()
    samples[1].gt_sem_seg.data.fill_(255)
    scores = []
    model.attention.classifier.register_forward_hook(lambda m, args, out: scores.append(out))
    loss = model.loss(inputs.double(), samples)['loss_cls']
    shown = torch.tensor([bool((samples[0].gt_sem_seg.data == c).any()) for c in (1, 2)])
    p = scores[0][0].sigmoid()
    want = -torch.where(shown, p.log(), (1 - p).log()).mean()
    torch.testing.assert_close(loss, want)


def test_pictures_show_what_it_learns_from():
    model = build().eval()
    images = tiny.batch(0, 2)[0].double()
    with torch.no_grad():
        label = model.weak_view(images).logits.softmax(dim=1)
        own = model.see('student', images).logits.softmax(dim=1)
    assert label.shape == own.shape and (label - own).abs().max() > 0.01


@pytest.mark.parametrize('keys, name', [
    (dict(fusion=2), 'fusion'), (dict(temperature=0), 'temperature'), (dict(cutout=-1), 'cutout')])
def test_bad_keys(keys, name):
    with pytest.raises(ValueError, match=name):
        build(**keys)
