"""ESL+ against a second implementation, and against ESL, FixMatch and UniMatch V2."""
from __future__ import annotations

import math

import pytest
import straight
import tiny
import torch
from test_unimatch_v2 import TAU, flipped, masks, outcome

from mmseg_esl.functional import cutmix_masks_by_image

MASS = 0.8


def build(kind='ESLPlus', **semi):
    if kind == 'ESLPlus':
        semi.setdefault('alignment', 0)
    return straight.settle(tiny.method(kind, sharp=1.0, **semi).double())


def soft(p):
    """Dominant classes of one pixel, by sorting; and 1 - entropy / ln C of them."""
    mass, kept = 0.0, []
    for c in sorted(range(len(p)), key=lambda c: -p[c]):
        if mass < MASS:
            kept.append(c)
            mass += float(p[c])
    total = sum(p[c] for c in kept)
    y = torch.stack([p[c] / total if c in kept else p[c] * 0 for c in range(len(p))])
    return y, 1 + sum(float(v) * math.log(v) for v in y if v > 0) / math.log(len(p))


def labels_of(logits, weighting):
    """Soft labels times weights, a pixel at a time."""
    probs = logits.softmax(1)
    out = torch.zeros_like(probs)
    for n in range(len(probs)):
        for i in range(probs.shape[2]):
            for j in range(probs.shape[3]):
                p = probs[n, :, i, j]
                y, certainty = soft(p)
                weight = dict(none=1.0, confidence=float(p.max()), certainty=certainty,
                              threshold=float(p.max() >= TAU))[weighting]
                out[n, :, i, j] = y * weight
    return out


def cross(logits, target, valid):
    logs = logits - logits.logsumexp(dim=1, keepdim=True)
    return -(target * logs).sum(1)[valid].sum() / valid.sum()


@pytest.mark.parametrize('weighting', ['none', 'confidence', 'certainty', 'threshold'])
def test_one_view_against_a_straight_line(weighting):
    model = build(variant='dsl', weighting=weighting, mass=MASS, threshold=TAU, sce_weight=0.7,
                  ema_momentum=0.4, cutmix_prob=0.8)
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    student, teacher = nets['student'], nets['teacher']

    def reference(number, images, labels, views):
        target = labels_of(teacher.frozen(images[2:]), weighting)
        (boxes, ), valid = views, labels[2:] != 255
        logits = student(torch.cat([images[:2], straight.cut(boxes, images[2:])]))
        found = straight.stepped(
            {'decode.loss_ce': straight.supervised(logits[:2], labels[:2]),
             'loss_sce': 0.7 * cross(logits[2:], straight.cut(boxes, target),
                                     straight.cut(boxes, valid))}, student)
        teacher.follow(student, min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)


@pytest.mark.parametrize('margin', [0, 1.5])
def test_alignment_against_a_straight_line(margin):
    """Shares of labelled pixels and of predictions, decaying by 0.99; quotients within 10."""
    model = build(mass=MASS, alignment=0.5, alignment_margin=margin, sce_weight=0.7,
                  ema_momentum=0.4, cutmix_prob=0.8)
    model.labeled_images = 7
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    student, teacher = nets['student'], nets['teacher']
    known, seen, squares, first = ([0.0] * 3 for _ in range(4))
    wanted_all, inside, quotients = [], [], []

    def reference(number, images, labels, views):
        logits, (boxes, ), valid = teacher.frozen(images[2:]), views, labels[2:] != 255
        probs = logits.softmax(1)
        counts = [int((labels[:2] == c).sum()) for c in range(3)]
        masses = [float(probs[:, c][valid].sum()) for c in range(3)]
        for c in range(3):
            known[c] = 0.99 * known[c] + counts[c] / sum(counts)
            seen[c] = 0.99 * seen[c] + masses[c] / sum(masses)
            of_image = [int((one == c).sum()) / int((one != 255).sum()) for one in labels[:2]]
            first[c] += masses[c] / sum(masses)
            squares[c] = 0.99 * squares[c] + sum(share ** 2 for share in of_image) / 2
        for c in range(3):
            share, total = known[c] / sum(known), sum(known)
            found = max(seen[c] / sum(seen), first[c] / sum(first))
            error = margin * math.sqrt(max(squares[c] / total - share ** 2, 0) / 7)
            wanted = min(max(found, share - error), share + error)
            inside.append(wanted == found)
            wanted_all.append(wanted)
        total = sum(wanted_all[-3:])
        for c in range(3):
            quotient = (wanted_all[c - 3] / total + 1e-6) / (seen[c] / sum(seen) + 1e-6)
            quotients.append(quotient)
            probs[:, c] *= min(max(quotient, 0.1), 10) ** 0.5
        target = labels_of((probs / probs.sum(1, keepdim=True)).log(), 'none')
        out = student(torch.cat([images[:2], straight.cut(boxes, images[2:])]))
        found = straight.stepped(
            {'decode.loss_ce': straight.supervised(out[:2], labels[:2]),
             'loss_sce': 0.7 * cross(out[2:], straight.cut(boxes, target),
                                     straight.cut(boxes, valid))}, student)
        teacher.follow(student, min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)
    assert max(abs(math.log(q)) for q in quotients) > 0.1  # it has something to do
    assert not all(inside) and any(inside) == bool(margin), inside


def test_two_views_with_complementary_channels_against_a_straight_line():
    model = build(weighting='confidence', mass=MASS, views=2, clean_share=0.5, ema_momentum=0.4,
                  cutmix_prob=0.8, cutmix_partner='flip', sce_weight=1.0)
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    student, teacher = nets['student'], nets['teacher']

    def reference(number, images, labels, views):
        target, valid = labels_of(teacher.frozen(images[2:]), 'confidence'), labels[2:] != 255
        known = student(images[:2])
        feats = student.encode(torch.cat([flipped(boxes, images[2:]) for boxes in views]))
        logits = student.decode([level * mask for level, mask in zip(feats, drawn(number, feats))])
        terms = [cross(out, flipped(boxes, target), flipped(boxes, valid))
                 for out, boxes in zip((logits[:3], logits[3:]), views)]
        found = straight.stepped({'decode.loss_ce': straight.supervised(known, labels[:2]),
                                  'loss_sce': sum(terms) / 2}, student)
        teacher.follow(student, min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)


def drawn(number, feats):
    """The step's channel masks: behind the boxes of two views, of the same generator."""
    torch.manual_seed(number)
    for _ in range(2):
        cutmix_masks_by_image(3, (32, 32), prob=0.8)
    return masks(feats)


@pytest.mark.parametrize('label', [dict(variant='dsl+ctr'), dict(variant='topk+ctr', topk=2)])
def test_without_its_parts_it_is_esl(label):
    """Bit for bit, contrast included, over steps."""
    found = []
    for kind, keys in (('ESL', {}), ('ESLPlus', dict(cutmix='batch'))):
        torch.manual_seed(0)
        model = build(kind, confidence=0.5, mass=MASS, **label, **keys)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
        terms = []
        for number in range(3):
            images, samples = tiny.batch(2, 3, seed=number)
            torch.manual_seed(number)
            losses = model.loss(images.double(), samples)
            tiny.total(losses).backward()
            optimizer.step()
            optimizer.zero_grad()
            model.after_optimizer_step(number)
            terms += [losses[key].detach() for key in ('decode.loss_ce', 'loss_sce', 'loss_ctr')]
        found.append((terms, model.state_dict()))
    (one, weights), (two, others) = found
    assert all(a == b and a > 0 for a, b in zip(one, two))
    assert weights.keys() == others.keys()
    for key in weights:
        assert torch.equal(weights[key], others[key]), key


def test_two_views_that_lose_nothing_pass_apart_as_they_do_together():
    """Where batch norm does not couple images; the contrast's anchors are of the first view."""
    found = []
    for share in (1.0, 0.5):
        model = build(variant='dsl+ctr', views=2, clean_share=share, confidence=0.5).eval()
        model._drop = lambda feats: feats
        inputs, samples = tiny.batch(2, 3)
        torch.manual_seed(3)
        losses = model.loss(inputs.double(), samples)
        tiny.total(losses).backward()
        found.append([losses[key].detach() for key in ('decode.loss_ce', 'loss_sce', 'loss_ctr')]
                     + [p.grad for net in (model.student, model.projector)
                        for p in net.parameters()])
    assert all(term > 0 for term in found[0][:3])
    same(*found)


HARD = dict(variant='hard', weighting='threshold', threshold=TAU, cutmix_prob=1.0)


def same(mine, other):
    for a, b in zip(mine, other):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def renamed(model):
    """``outcome`` reads 'loss_u'."""
    step = model.step
    model.step = lambda batch: {key.replace('loss_sce', 'loss_u'): value
                                for key, value in step(batch).items()}
    return model


def test_with_hard_labels_above_a_threshold_it_is_fixmatch_with_an_average():
    other = build('FixMatch', labels_by='teacher', threshold=TAU, supervised_weight=1.0,
                  unlabeled_weight=0.7, cutmix_prob=1.0)
    same(outcome(renamed(build(sce_weight=0.7, **HARD))), outcome(other))


def test_with_two_views_and_their_channels_it_is_unimatch_v2():
    other = build('UniMatchV2', threshold=TAU, supervised_weight=1.0, unlabeled_weight=0.7,
                  cutmix_prob=1.0)
    mine = build(sce_weight=0.7, views=2, clean_share=0.5, cutmix_partner='flip', **HARD)
    same(outcome(renamed(mine)), outcome(other))


@pytest.mark.parametrize('wrong, named', [
    (dict(variant='sup'), 'Supervised'), (dict(clean_share=0.5), 'views=2'),
    (dict(views=3), 'views'), (dict(weighting='entropy'), 'weighting'),
    (dict(alignment_margin=-0.1), 'alignment_margin'),
    (dict(alignment_margin=float('nan')), 'alignment_margin')])
def test_wrong_keys_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        tiny.method('ESLPlus', **wrong)
