"""CCT against a second implementation, written from its code's description."""
from __future__ import annotations

import math

import pytest
import straight
import tiny
import torch
import torch.nn.functional as F

from mmseg_esl.functional import component_boxes
from mmseg_esl.storage.keys import to_plain

FEW = dict(vat=2, dropout=1, cutout=1, context=1, objects=1, feature_drop=2, feature_noise=1)


def build(seg=None, aux=None, **semi):
    cfg = tiny.method_cfg('CCT', seg or tiny.segmentor(decode_head=tiny.fcn()), **semi)
    cfg['aux_decoders'] = dict(FEW, min_perimeter=0, **(aux or {}))
    return straight.settle(tiny._built(cfg, 1.0, True).double())


def test_against_a_straight_line():
    model = build(consistency_weight=20.0, ramp_iters=4)
    student, aux = straight.Net(model.student), straight.Net(model.aux_decoders)
    head = student.net.decode_head
    cut_out = []

    def features(images):
        return head.convs(student.net.backbone(images)[3])

    def big(x):
        return F.interpolate(x, (32, 32), mode='bilinear')

    def noise(decoder, z, valid):
        start = torch.rand(z.shape, dtype=torch.float64) - 0.5
        start = torch.stack([d / (d.norm() + 1e-8) for d in start]).requires_grad_()
        q, p = decoder(z.detach()).softmax(1).detach(), decoder(z.detach() + 0.1 * start).softmax(1)
        distance = (q * (q.log() - p.log())).sum(1)[valid].sum() / len(z)
        slope, = torch.autograd.grad(distance, start)
        return torch.stack([2 * g / (g.norm() + 1e-8) for g in slope])

    def windows(fore):
        keep, draw = torch.ones_like(fore), torch.rand(2, len(fore), fore[0].numel())
        top, bottom, left, right, there = component_boxes(fore)
        for n, name in there.nonzero().tolist():
            sides = [int(e[n, name]) for e in (top, bottom, left, right)]
            rows, cols = int(0.4 * (sides[1] - sides[0])), int(0.4 * (sides[3] - sides[2]))
            y = sides[0] + int(draw[0, n, name] * (sides[1] - sides[0] - rows + 1))
            x = sides[2] + int(draw[1, n, name] * (sides[3] - sides[2] - cols + 1))
            keep[n, y:y + rows, x:x + cols] = False
        cut_out.append(int((~keep).sum()))
        return keep

    def perturbed(kind, decoder, z, valid, fore):
        if kind == 'vat':
            return z + noise(decoder, z, valid)
        if kind == 'dropout':
            return F.dropout2d(torch.ones_like(z), 0.5) * z
        if kind == 'feature_drop':
            u, active = 0.7 + 0.2 * torch.rand((), dtype=torch.float64), z.detach().mean(1)
            most = [a[v].max() if v.any() else -math.inf for a, v in zip(active, valid)]
            return torch.stack([x * (a < m * u) for x, a, m in zip(z, active, most)])
        if kind == 'feature_noise':
            return z * (1 + 0.3 * (2 * torch.rand(z.shape[1:], dtype=torch.float64) - 1))
        return z * {'cutout': lambda: windows(fore), 'context': lambda: fore,
                    'objects': lambda: ~fore}[kind]()[:, None]

    def reference(number, images, labels, views):
        assert views == []
        known, unknown, valid = images[:2], images[2:], labels[2:] != 255
        supervised = straight.supervised(big(head.conv_seg(features(known))), labels[:2])
        z = features(unknown)
        main = big(head.conv_seg(z)).detach()
        places = valid[:, 4::8, 4::8]  # nearest of stride 8
        fore = (main.argmax(1) != 0)[:, 4::8, 4::8] & places
        terms = []
        for kind, decoder in zip(model.aux_decoders.kinds, aux.net.decoders):
            answer = big(decoder(perturbed(kind, decoder, z, places, fore)))
            squares = (answer.softmax(1) - main.softmax(1)).pow(2).mean(1)
            terms.append(squares[valid].mean())
        rise = math.exp(-5 * (1 - (number + 1) / 4) ** 2)
        losses = {'decode.loss_ce': supervised, 'loss_cons': 20 * rise * sum(terms) / len(terms)}
        return straight.stepped(losses, student, aux)

    straight.compare(model, reference, {'student': student, 'aux_decoders': aux})
    assert max(cut_out) > 0


def test_whom_the_consistency_teaches():
    """Encoder and auxiliary decoders; not the main classifier, whose answer is the target."""
    model = build()
    inputs, samples = tiny.batch()
    model.loss(inputs.double(), samples)['loss_cons'].backward()
    head = model.student.decode_head
    assert all(p.grad is None or not p.grad.any() for p in head.conv_seg.parameters())
    assert head.convs[0].conv.weight.grad.any()
    assert model.student.backbone.stem[0].weight.grad.any()
    assert all(d.weight.grad.any() for d in model.aux_decoders.decoders)


@pytest.mark.parametrize('background', [0, 1, None])
def test_background(background):
    model = build(aux=dict(background_class=background))
    kinds = set(model.aux_decoders.kinds)
    assert ('cutout' in kinds) == (background is not None)
    inputs, samples = tiny.batch()
    assert model.loss(inputs.double(), samples)['loss_cons'] > 0


def test_the_export_has_none_of_it():
    model = build(tiny.segmentor())
    plain = to_plain(model.state_dict(), 'student')
    assert not [key for key in plain if 'aux' in key]
    assert {key.split('.')[0] for key in plain} == {'backbone', 'decode_head'}


def test_warm_up_trains_the_segmentor_alone():
    model = build(warmup_iters=1)
    inputs, samples = tiny.batch()
    losses = model.loss(inputs.double(), samples)
    assert 'loss_cons' not in losses and losses['loss_unused'] == 0
    tiny.total(losses).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.aux_decoders.parameters())


def test_embedding_that_is_not_there():
    cfg = tiny.method_cfg('CCT')
    with pytest.raises(ValueError, match="no module 'nothing'"):
        tiny._built(dict(cfg, embedding='decode_head.nothing'), 0.0, False)
