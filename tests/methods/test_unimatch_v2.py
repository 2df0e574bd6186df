"""UniMatch V2 against a second implementation, against UniMatch and against FixMatch."""
from __future__ import annotations

import pytest
import straight
import tiny
import torch

from mmseg_esl.functional import cutmix_masks_by_image

TAU = 0.7


def build(kind='UniMatchV2', seg=None, **semi):
    return straight.settle(tiny.method(kind, seg, sharp=1.0, threshold=TAU, **semi).double())


def flipped(boxes, x):
    """Each image's box shows the image at its place in the reversed batch."""
    out = x.clone()
    for i, box in enumerate(boxes):
        for y, z in box.nonzero().tolist():
            out[i, ..., y, z] = x[len(x) - 1 - i, ..., y, z]
    return out


def masks(feats):
    """The step's own draws again: levels of four widths, one of three images clean."""
    order = torch.rand(3)
    clean = order == order.min()
    out = []
    for level in feats:
        first = 2.0 * (torch.rand(3, level.shape[1]) < 0.5)
        first[clean] = 1
        out.append(torch.cat([first, 2 - first])[:, :, None, None])
    assert len({level.shape[1] for level in feats}) == len(feats) == 4
    return out


def test_against_a_straight_line():
    model = build(ema_momentum=0.4, cutmix_prob=0.8)
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    student, teacher, kept = nets['student'], nets['teacher'], []

    def reference(number, images, labels, views):
        valid, unknown = labels[2:] != 255, images[2:]
        classes, confidence = straight.best(teacher.frozen(unknown))
        known = student(images[:2])
        for boxes in views:  # drawn before the masks, by the same generator
            assert torch.equal(boxes, cutmix_masks_by_image(3, (32, 32), prob=0.8))
        strong = [flipped(boxes, unknown) for boxes in views]
        feats = student.encode(torch.cat(strong))
        logits = student.decode([level * mask for level, mask in zip(feats, masks(feats))])
        terms = []
        for out, boxes in zip((logits[:3], logits[3:]), views):
            ce = straight.entropies(out, flipped(boxes, classes))
            sure = flipped(boxes, confidence) >= TAU
            terms.append((ce * sure * flipped(boxes, valid)).sum() / valid.sum())
            kept.append(float(sure.double().mean()))
        losses = {'decode.loss_ce': straight.supervised(known, labels[:2]) / 2,
                  'loss_u': sum(terms) / 4}
        found = straight.stepped(losses, student)
        teacher.follow(student, min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)
    assert all(0.05 < share < 0.95 for share in kept), kept  # the threshold decides


def outcome(model, first=0):
    """Terms and gradients of one step; calls of ``strong`` are seeded ``first``, then the next."""
    model.eval()  # batch norm does not couple the views
    count, strong = [], model.strong

    def same(weak, *draws):
        torch.manual_seed(first + len(count))
        count.append(1)
        return strong(weak, *draws)

    model.strong = same
    inputs, samples = tiny.batch(2, 3)
    losses = model.loss(inputs.double(), samples)
    tiny.total(losses).backward()
    assert losses['loss_u'] > 0
    return (losses['loss_u'].detach(), losses['decode.loss_ce'].detach(),
            *(p.grad for p in model.student.parameters()))


@pytest.mark.parametrize('partner', ['next', 'flip'])
def test_without_dropout_it_is_the_mean_of_two_fixmatches_with_an_average(partner):
    both = outcome(build(clean_share=1.0, cutmix_prob=1.0, cutmix_partner=partner))
    one, two = (outcome(build('FixMatch', labels_by='teacher', cutmix_prob=1.0,
                              cutmix_partner=partner), first) for first in (0, 1))
    assert not torch.equal(one[0], two[0])
    for a, b, c in zip(both, one, two):
        torch.testing.assert_close(a, (b + c) / 2, rtol=1e-10, atol=1e-12)


def test_without_dropout_it_is_unimatch_without_its_perturbed_features():
    mine = outcome(build(clean_share=1.0, cutmix_prob=1.0, cutmix_partner='next'))
    other = outcome(build('UniMatch', labels_by='teacher', cutmix_prob=1.0, feature_weight=0,
                          strong_weights=(0.5, 0.5)))
    for a, b in zip(mine, other):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_one_level_and_what_is_dropped():
    """An encoder that gives one level; labels and labelled images see no dropout."""
    seg = tiny.segmentor(decode_head=tiny.fcn(in_index=0))
    seg['backbone']['out_indices'] = (3, )
    model, seen = build(seg=seg), []
    head = model.student.decode_head
    for net in model.named(plain=True).values():
        net.decode_head.register_forward_pre_hook(
            lambda module, args: seen.append((module is head, args[0])))
    inputs, samples = tiny.batch(2, 4)
    encoded = []
    model.student.backbone.register_forward_hook(lambda m, args, out: encoded.append(out))
    model.loss(inputs.double(), samples)
    assert [(mine, len(feats[0])) for mine, feats in seen] == [(False, 4), (True, 2), (True, 8)]
    assert torch.equal(seen[1][1][0], encoded[0][0])
    ratio = torch.where(encoded[1][0] == 0, 1.0, seen[2][1][0] / encoded[1][0]).flatten(2)
    assert len(seen[2][1]) == 1 and set(ratio.unique().tolist()) == {0, 1, 2}
    clean = [bool((image == 1).all()) for image in ratio]
    assert clean[:4] == clean[4:] and sum(clean[:4]) == 2


def test_nothing_is_sure():
    """Half the supervised loss, and a zero that is connected."""
    model = build()
    model.cfg.threshold = 1.1
    inputs, samples = tiny.batch()
    losses = model.loss(inputs.double(), samples)
    losses['loss_u'].backward()
    assert losses['loss_u'] == 0 < losses['decode.loss_ce']
    assert all(p.grad is not None and not p.grad.any() for p in model.student.parameters())


def test_integer_buffers_are_the_students():
    model = build()
    for net in (model.student, model.teacher):
        net.register_buffer('index', torch.arange(2000))
    model.student.index += 7
    for step in range(300):
        model.after_optimizer_step(step)
    assert torch.equal(model.teacher.index, torch.arange(2000) + 7)


def test_weights_add_up():
    cfg = tiny.MODELS.get('UniMatchV2').parse_cfg({})
    assert cfg.supervised_weight + cfg.unlabeled_weight == 1 and cfg.ema_momentum == 0.996


@pytest.mark.parametrize('keys, name', [
    (dict(clean_share=1.5), 'clean_share'), (dict(cutmix_partner='none'), 'cutmix_partner')])
def test_bad_keys(keys, name):
    with pytest.raises(ValueError, match=f'{name}.*{list(keys.values())[0]}'):
        build(**keys)
