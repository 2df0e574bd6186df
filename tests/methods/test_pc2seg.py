"""The reconstruction of PC2Seg against a second implementation."""
from __future__ import annotations

import math

import pytest
import straight
import tiny
import torch
import torch.nn.functional as F

from mmseg_esl.models.representation import RepresentationHead


class Network(straight.Net):
    """A segmentor that also says what its classifier reads."""

    def __call__(self, images):
        found = []
        head = self.net.decode_head
        handle = head.conv_seg.register_forward_pre_hook(lambda m, args: found.append(args[0]))
        out = super().__call__(images)
        handle.remove()
        return out, found[0]


def project(net, feats):
    """Two 1 x 1 layers, as a copy of the projector has them."""
    first, last = net.net.convs[0], net.net.convs[1]
    x = torch.einsum('ld,ndhw->nlhw', first.conv.weight[:, :, 0, 0], feats)
    x = first.bn(x).relu()
    return torch.einsum('ml,nlhw->nmhw', last.weight[:, :, 0, 0], x) + last.bias[:, None, None]


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize('labels_by', ['student', 'teacher'])
def test_against_a_straight_line(labels_by):
    hole = 9
    model = tiny.method('PC2Seg', sharp=1.0, labels_by=labels_by, num_negatives=21,
                        temperature=0.4, consistency_weight=0.7, contrast_weight=0.3, cutout=hole,
                        ema_momentum=0.4).double()
    assert isinstance(model.projector, RepresentationHead)
    nets = {name: (straight.Net if 'projector' in name else Network)(getattr(model, name))
            for name in model.roles}
    student, projector = nets['student'], nets['projector']

    def labelled(weak):
        net, head = (nets['teacher'], nets['teacher_projector']) if labels_by == 'teacher' \
            else (student, projector)
        with torch.no_grad():
            net.net.train(labels_by == 'student')
            logits, feats = net(weak)
            return logits.softmax(dim=1), project(head, feats)

    def reference(number, images, labels, views):
        (boxes,), weak = views, images[2:]
        assert not boxes.any()
        losses = {'decode.loss_ce': straight.supervised(student(images[:2])[0], labels[:2])}
        p_w, e_w = labelled(weak)
        torch.rand(()), torch.rand(3, 3)  # boxes that nobody wants
        draw, strong, valid = torch.rand(2, 3), weak.clone(), labels[2:] != 255
        for i in range(3):
            top, left = (int(d * 32) - hole // 2 for d in draw[:, i])
            inside = torch.zeros(32, 32, dtype=torch.bool)
            inside[max(top, 0):top + hole, max(left, 0):left + hole] = True
            strong[i, :, inside] = 0
            valid[i] &= ~inside
        logits, feats = student(strong)
        e_s = project(projector, feats)
        squares = (logits.softmax(dim=1) - p_w).square().sum(dim=1)
        losses['loss_con'] = 0.7 * squares[valid].mean()
        lots = torch.rand(3, 11, dtype=torch.float64)  # 21 of two images
        small = valid[:, 2::4, 2::4]
        p = F.interpolate(p_w, (8, 8), mode='bilinear', align_corners=False)
        rows = [[x[n][:, small[n]].T for n in range(3)] for x in (unit(e_s), unit(e_w), p)]
        keys = [[x[n][(lots[n] * len(x[n])).long()] for n in range(3)] for x in rows[1:]]
        terms = []
        for n in range(3):
            z, positive, mine = (x[n] for x in rows)
            others = [m for m in range(3) if m != n]
            theirs, chances = (torch.cat([x[m] for m in others]) for x in keys)
            best = torch.exp((z * positive).sum(dim=1) / 0.4)
            rest = ((1 - mine @ chances.T) * torch.exp(z @ theirs.T / 0.4)).sum(dim=1)
            terms.append(-(best / (best + rest)).log())
        losses['loss_ctr'] = 0.3 * torch.cat(terms).mean()
        found = straight.stepped(losses, student, projector)
        if labels_by == 'teacher':
            for name in ('teacher', 'teacher_projector'):
                nets[name].follow(nets[model.roles[name].follows], min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)


def test_equal_views_are_consistent():
    """Without colours and hole both views are one; in training mode they have one statistic too."""
    model = tiny.method('PC2Seg', sharp=1.0)
    losses = model.loss(*tiny.batch())
    assert losses['loss_con'] == 0 and losses['loss_ctr'] > 0


def test_the_consistency_is_a_sum_over_the_classes(monkeypatch):
    """(1, 0) against (0, 1): 2 a pixel."""
    model = tiny.method('PC2Seg', tiny.segmentor(2), num_classes=2)
    see, sign = model.see, [1.0, -1.0]

    def certain(*args, **kwargs):
        view = see(*args, **kwargs)
        far = torch.stack([torch.ones_like(view.logits[:, 0]), -torch.ones_like(view.logits[:, 0])],
                          dim=1)
        view.logits = view.logits * 0 + 500 * sign.pop() * far
        return view

    monkeypatch.setattr(model, 'see', certain)
    assert model.loss(*tiny.batch(num_classes=2))['loss_con'] == 2


def test_who_learns():
    model = tiny.method('PC2Seg', sharp=1.0, cutout=8).double()
    inputs, samples = tiny.batch()
    losses = model.loss(inputs.double(), samples)

    def reached(loss, net):
        grads = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True,
                                    allow_unused=True)
        return any(g is not None and bool(g.any()) for g in grads)

    head = model.student.decode_head
    assert reached(losses['loss_con'], head.conv_seg) and not reached(losses['loss_con'],
                                                                      model.projector)
    assert reached(losses['loss_ctr'], model.projector) and reached(losses['loss_ctr'],
                                                                    model.student.backbone)
    assert not reached(losses['loss_ctr'], head.conv_seg)


def test_negatives_are_worth_something():
    """All cosines equal: ln(1 + K), K a few more than asked for."""
    model = tiny.method('PC2Seg', num_negatives=10, debias='none', contrast_weight=1.0).eval()
    torch.nn.init.zeros_(model.projector.convs[1].weight)
    torch.nn.init.ones_(model.projector.convs[1].bias)
    loss = model.loss(*tiny.batch(2, 5))['loss_ctr']
    assert float(loss.detach()) == pytest.approx(math.log(1 + 4 * math.ceil(10 / 4)), rel=1e-5)
    model.cfg.negatives_from = 'batch'  # two of each image, now and then the anchor itself
    loss = model.loss(*tiny.batch(2, 5))['loss_ctr']
    assert math.log(1 + 9) < float(loss.detach()) < math.log(1 + 10) + 1e-5


@pytest.mark.parametrize('keys, name', [
    (dict(cutmix_prob=0.5), 'cutmix_prob'), (dict(cutout=-1), 'cutout'),
    (dict(debias='never'), 'debias'), (dict(temperature=0), 'temperature'),
    (dict(labels_by='nobody'), 'labels_by'), (dict(negatives_from='me'), 'negatives_from')])
def test_bad_keys(keys, name):
    with pytest.raises(ValueError, match=name):
        tiny.method('PC2Seg', **keys)


def test_it_says_what_it_is():
    cls = type(tiny.method('PC2Seg'))
    assert 'reconstruction' in cls.__doc__ and 'unverified' in cls.__doc__
    assert cls.published_as(cls.parse_cfg({})) is None and 'style' in cls.name_of(cls.parse_cfg({}))
