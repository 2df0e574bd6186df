"""CPS + CutMix against a second implementation; what is mixed with what."""
from __future__ import annotations

import math

import pytest
import straight
import tiny
import torch

from mmseg_esl.methods.cps import CPSTrainCfg


def xor_box(draw, size=32):
    """One of three boxes from four numbers, in plain Python: rows and columns."""
    share = 0.25 + 0.25 * float(draw[0])
    tall = math.exp(float(draw[1]) * math.log(share))
    height, width = round(tall * size / 3 ** 0.5), round(share / tall * size / 3 ** 0.5)
    top, left = round((size - height) * float(draw[2])), round((size - width) * float(draw[3]))
    return range(top, top + height), range(left, left + width)


def drawn(num):
    """The masks and the shift that a step draws, pixel by pixel."""
    draw, masks = torch.rand(4, num * 3), torch.zeros(num, 32, 32, dtype=torch.bool)
    for i in range(num):
        for k in range(3):
            rows, cols = xor_box(draw[:, 3 * i + k])
            for y in rows:
                for x in cols:
                    masks[i, y, x] = not masks[i, y, x]
    return masks, int(torch.randint(1, num, ()))


def cut(masks, shift, x):
    """Each image's boxes are filled from the image ``shift`` further."""
    out = x.clone()
    for i, mask in enumerate(masks):
        for row, col in mask.nonzero().tolist():
            out[i, ..., row, col] = x[(i + shift) % len(x)][..., row, col]
    return out


def test_against_a_straight_line():
    model = tiny.method('CPS', mixing=True, cps_weight=0.7).double()
    one, two = (straight.Net(getattr(model, name)) for name in ('student', 'student2'))
    shifts = []

    def reference(number, images, labels, views):
        weak, losses, logits = images[2:], {}, []
        with torch.no_grad():
            said = [straight.best(net(weak))[0] for net in (one, two)]
        masks, shift = drawn(len(weak))
        shifts.append(shift)
        valid = cut(masks, shift, labels[2:] != 255)
        for name, net in (('', one), ('student2.', two)):
            losses[f'{name}decode.loss_ce'] = straight.supervised(net(images[:2]), labels[:2])
            logits.append(net(cut(masks, shift, weak)))
        losses['loss_cps'] = 0.7 * sum(
            straight.entropies(mine, cut(masks, shift, theirs))[valid].mean()
            for mine, theirs in zip(logits, said[::-1]))
        return straight.stepped(losses, one, two)

    straight.compare(model, reference, {'student': one, 'student2': two})
    assert set(shifts) == {1, 2}  # both partners that an image of three can have


def test_two_pixels_by_hand():
    """z1 = (1, 0), z2 = (0, 1): 2 ln(1 + e), times the plain weight of 1.5."""
    for mixing, factor in ((False, 1.5), (True, 1.0)):
        model = tiny.method('CPS', tiny.segmentor(2), num_classes=2, mixing=mixing).eval()
        for net, bias in ((model.student, [1.0, 0.0]), (model.student2, [0.0, 1.0])):
            torch.nn.init.zeros_(net.decode_head.conv_seg.weight)
            net.decode_head.conv_seg.bias.data = torch.tensor(bias)
        loss = model.loss(*tiny.batch(num_classes=2))['loss_cps']
        assert float(loss.detach()) == pytest.approx(factor * 2.62652, rel=1e-5)


@pytest.mark.parametrize('mixed', [False, True])
def test_all_or_nothing_mixed_is_plain_cps_on_one_batch(monkeypatch, mixed):
    """Without boxes on u0, with boxes everywhere on u1; labelled images are not in the term."""
    model = tiny.method('CPS', mixing=True, cps_weight=1.0).double().eval()
    inputs, samples = tiny.batch(2, 3)
    inputs = inputs.double()
    monkeypatch.setattr('mmseg_esl.methods.cps.cutmix_masks_xor',
                        lambda num, size, device: torch.full((num, *size), mixed))
    monkeypatch.setattr(torch, 'randint', lambda *args: torch.tensor(1))
    found = model.loss(inputs, samples)
    weak = inputs[2:].roll(-1, 0) if mixed else inputs[2:]
    one, two = (straight.Net(net)(weak).detach() for net in (model.student, model.student2))
    valid = slice(0, 28)  # four columns are padding
    want = sum(straight.entropies(a, straight.best(b)[0])[..., valid].mean()
               for a, b in ((one, two), (two, one)))
    assert float(found['loss_cps'].detach()) == pytest.approx(float(want), rel=1e-10)


def test_images_and_labels_stay_together(monkeypatch):
    """Each image is of one colour, its number; what the networks say of a pixel is its number."""
    model, seen = tiny.method('CPS', mixing=True), []
    inputs, samples = tiny.batch(1, 3)
    inputs[1:] = torch.arange(3.0)[:, None, None, None]

    def classes(logits):
        return logits[:, 0].long(), logits[:, 0]

    def see(name, images, **kwargs):
        return type('View', (), dict(logits=images))

    def loss(logits, labels, keep, valid, divisor=None):
        seen.append((logits[:, 0].long(), labels))
        return logits.sum() * 0

    monkeypatch.setattr('mmseg_esl.methods.cps.pseudo_label', classes)
    monkeypatch.setattr('mmseg_esl.methods.cps.pseudo_cross_entropy', loss)
    monkeypatch.setattr(model, 'see', see)
    monkeypatch.setattr(model, 'train_on', lambda *args, **kwargs: ({}, None, None))
    model.loss(inputs, samples)
    assert len(seen) == 2
    for images, labels in seen:
        assert torch.equal(images, labels)
        for number, image in enumerate(images):  # two images in each, never itself alone
            assert image.unique().numel() == 2 and number in image.unique()


def test_a_pass_for_labels_has_no_gradient_but_gathers_statistics():
    model = tiny.method('CPS', mixing=True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.loss(*tiny.batch())
    for name in model.roles:
        key = f'{name}.backbone.stem.1.num_batches_tracked'
        assert model.state_dict()[key] - before[key] == 3  # weak, labelled, mixed


@pytest.mark.parametrize('keys, weight', [
    ({}, 1.5), (dict(mixing=True), 1.0), (dict(mixing=True, cps_weight=5.0), 5.0)])
def test_weights(keys, weight):
    assert CPSTrainCfg(**keys).cps_weight == weight
