"""ReCo against a second implementation that goes from pixel to pixel; its relations."""
from __future__ import annotations

import math

import every
import pytest
import straight
import tiny
import torch
from test_u2pl import Tapped

from mmseg_esl.functional import weighted_cross_entropy
from mmseg_esl.semi import Batch

COUNTS = dict(num_anchors=7, num_negatives=5)


def model_of(**keys):
    model = tiny.method('ReCo', sharp=1.0, **{**COUNTS, **keys}).double()
    return straight.settle(model)


def windows_of(num, low, high):
    draw = torch.rand(3, num)
    factor = low + (high - low) * draw[0]
    room = [max(0, math.floor(f * 32) - 32) for f in factor.tolist()]
    corners = [[math.floor(float(lot) * (r + 1)) for lot, r in zip(lots, room)]
               for lots in draw[1:]]
    return list(zip(factor.tolist(), *corners))


def moved(images, labels, confidence, valid, windows):
    """Bilinear images, nearest labels; -1 and 0 beyond the image and where padding is blended."""
    size, n = images.shape[-1], len(images)
    out, found = torch.zeros_like(images), torch.full_like(labels, -1)
    sure = torch.zeros_like(confidence)
    back = [[None] * size for _ in range(2)]
    for b in range(n):
        factor, *corner = windows[b]
        inside = []
        for axis in range(2):
            true = [(j + 0.5 + corner[axis]) / factor - 0.5 for j in range(size)]
            inside.append([-0.5 <= u <= size - 0.5 for u in true])
            mirrored = [(u + 0.5) % (2 * size) for u in true]
            back[axis] = [min(max((2 * size - u if u > size else u) - 0.5, 0), size - 1)
                          for u in mirrored]
        for i, v in enumerate(back[0]):
            for j, u in enumerate(back[1]):
                clean = inside[0][i] and inside[1][j]
                for y in {math.floor(v), math.floor(v) + 1}:
                    for x in {math.floor(u), math.floor(u) + 1}:
                        weight = (1 - abs(v - y)) * (1 - abs(u - x))
                        if weight > 0:
                            out[b, :, i, j] += weight * images[b, :, y, x]
                            clean = clean and bool(valid[b, y, x])
                if clean:
                    found[b, i, j] = labels[b, round(v), round(u)]
                    sure[b, i, j] = confidence[b, round(v), round(u)]
    return out, found, sure


def pasted(labels, keys):
    """Where the next image shows."""
    boxes = torch.ones_like(labels, dtype=torch.bool)
    for b, image in enumerate(labels):
        own = sorted(set(image.flatten().tolist()) - {-1}, key=lambda c: float(keys[b, c]))
        for c in own[:len(own) // 2]:
            boxes[b][image == c] = False
    return boxes


def contrast(classes, probs, z, waits):
    """All maps as rows; on a device that waits for reads lots are drawn for everybody."""
    num = probs.shape[1]
    members = [(classes == c).nonzero().flatten().tolist() for c in range(num)]
    present = [c for c in range(num) if members[c]]
    means = {c: z.detach()[members[c]].mean(dim=0) for c in present}
    anchors = torch.rand(num, 7, dtype=torch.float64)
    hard = {c: [i for i in members[c] if probs[i, c] < 0.6] for c in present}
    hard = {c: pixels for c, pixels in hard.items() if pixels and len(present) > 1}
    drawn = list(range(num)) if waits else list(hard)
    kinds, places = torch.rand(2, 7 * len(drawn), 5, dtype=torch.float64)
    loss, compared = 0, 0
    for c in hard:
        others = [k for k in present if k != c]
        alike = torch.stack([torch.cosine_similarity(means[c], means[k], dim=0) for k in others])
        ends = (alike / 0.5).softmax(dim=0).cumsum(dim=0)
        for a in range(7):
            query = z[hard[c][int(anchors[c, a] * len(hard[c]))]]
            row = 7 * drawn.index(c) + a
            keys = [means[c]]
            for kind, place in zip(kinds[row], places[row]):
                k = others[int((ends <= kind).sum())]
                keys.append(z.detach()[members[k][int(place * len(members[k]))]])
            scores = torch.cosine_similarity(query[None], torch.stack(keys)) / 0.5
            loss = loss - scores.log_softmax(dim=0)[0] / 7 / len(present)
            compared += 1
    assert compared
    return loss


@pytest.mark.parametrize('rescale, waits', [((0.5, 1.5), True), ((1.0, 1.0), False)])
def test_against_a_straight_line(monkeypatch, rescale, waits):
    monkeypatch.setattr('mmseg_esl.functional.contrast.waits_for_reads', lambda device: waits)
    model = model_of(rescale=rescale, strong_threshold=0.6, weak_threshold=0.45,
                     unlabeled_weight=0.8, contrast_weight=0.3)
    student, teacher = (Tapped(getattr(model, name)) for name in ('student', 'teacher'))
    head = straight.Net(model.projector)
    head.__class__ = type('Head', (straight.Net,), {'__call__': lambda self, x: self.net(x)})

    def reference(number, images, labels, views):
        assert views == []
        pseudo, confidence = straight.best(teacher.frozen(images[2:]))
        strong, pseudo, confidence = moved(images[2:], pseudo, confidence, labels[2:] != 255,
                                           windows_of(3, *rescale))
        boxes = pasted(pseudo, torch.rand(3, 3))
        strong, pseudo, confidence = (straight.cut(boxes, x) for x in (strong, pseudo, confidence))
        for b, lot in enumerate(torch.rand(3).tolist()):
            if lot < 0.5:
                strong[b], pseudo[b], confidence[b] = (
                    x[b].flip(-1) for x in (strong, pseudo, confidence))
        labeled, feats = student.both(images[:2])
        z = [head(feats)]
        logits, feats = student.both(strong)
        z.append(head(feats))
        losses, kept = {'decode.loss_ce': straight.supervised(labeled, labels[:2])}, pseudo >= 0
        shares = [float((confidence[b][kept[b]] >= 0.6).double().mean()) for b in range(3)]
        each = straight.entropies(logits, pseudo.clamp(min=0))
        losses['loss_u'] = 0.8 * sum(s * each[b][kept[b]].sum() for b, s in enumerate(shares)
                                     ) / float(kept.sum())
        known = torch.where(labels[:2] == 255, -1, labels[:2])
        classes = torch.cat([known, torch.where(confidence >= 0.45, pseudo, -1)])
        probs = torch.cat([labeled, logits]).detach().softmax(dim=1)[..., 2::4, 2::4]
        losses['loss_contrast'] = 0.3 * contrast(
            classes[:, 2::4, 2::4].flatten(), probs.permute(0, 2, 3, 1).flatten(0, 2),
            torch.cat(z).permute(0, 2, 3, 1).flatten(0, 2), waits)
        found = straight.stepped(losses, student, head)
        teacher.follow(student, min(1 - 1 / (number + 1), 0.99))
        return found

    straight.compare(model, reference, {'student': student, 'projector': head, 'teacher': teacher})


@pytest.mark.parametrize('ignored, want', [(0, 0.75), (1, None)])
def test_an_images_labels_count_by_its_confident_share(ignored, want):
    """Two images of four pixels, two and four of them confident, cross entropy 1 everywhere."""
    logits = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    logits[:, 0] = -math.log(math.e - 1)  # of class 0: -log p = 1
    confident = torch.tensor([[[True, True], [False, False]], [[True, True], [True, True]]])
    valid = torch.ones_like(confident)
    valid[0, 1, :ignored] = False  # not one of the confident ones
    share = (confident & valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).double()
    loss = weighted_cross_entropy(logits, torch.zeros(2, 2, 2).long(),
                                  valid * share[:, None, None], valid.sum())
    if ignored:
        assert float(share[0]) == pytest.approx(2 / 3)
        want = (3 * 2 / 3 + 4) / 7
    assert float(loss) == pytest.approx(want)


def test_a_class_that_is_easy_adds_nothing_but_counts(monkeypatch):
    # lots for everybody, used or not: the hard classes' are the same
    monkeypatch.setattr('mmseg_esl.functional.contrast.waits_for_reads', lambda device: True)
    model = model_of(num_negatives=9)
    z = torch.randn(1, 4, 4, 6, requires_grad=True)
    classes = torch.tensor([[[0, 0, 1, 1, 2, 2]] * 4])
    logits = torch.zeros(1, 3, 4, 6)
    found = []
    for sure in (False, True):
        logits[:, 2, :, 4:] = 50.0 if sure else 0.0  # class 2 is certain of itself, or not
        torch.manual_seed(0)
        loss = model._contrast(logits, z, classes)
        found.append(torch.autograd.grad(loss, z)[0])
    easy, hard = found[1], found[0]
    assert (easy[..., 4:] == 0).all() and (hard[..., 4:] != 0).any()
    torch.testing.assert_close(easy[..., :4], hard[..., :4])  # as much, a third each
    one = model._contrast(logits, z, torch.zeros_like(classes))
    assert one == 0 and one.requires_grad  # a single class


def test_gradients_reach_the_queries_alone():
    model = model_of(strong_threshold=0.5)
    z = torch.randn(2, 4, 4, 4, requires_grad=True)
    classes = torch.randint(0, 3, (2, 4, 4))
    logits = 9 * torch.nn.functional.one_hot(classes, 3).movedim(3, 1).double()
    logits[0, :, 0] = 0.0  # the only hard pixels
    grad, = torch.autograd.grad(model._contrast(logits, z, classes), z)
    assert (grad[0, :, 0] != 0).any() and (grad[0, :, 1:] == 0).all() and (grad[1] == 0).all()


def test_a_class_of_one_pixel_and_one_hard_pixel():
    """A single pixel makes a class present, and is an anchor as soon as it is hard."""
    model = model_of()
    classes = torch.zeros(1, 4, 4, dtype=torch.long)
    classes[0, 1, 2] = 1
    logits = 9 * torch.nn.functional.one_hot(classes, 3).movedim(3, 1).double()
    logits[0, :, 1, 2] = 0.0
    z = torch.randn(1, 4, 4, 4, requires_grad=True)
    loss = model._contrast(logits, z, classes)
    grad, = torch.autograd.grad(loss, z)
    assert loss > 0 and (grad[0, :, 1, 2] != 0).any()
    grad[0, :, 1, 2] = 0
    assert not grad.any()


def test_as_sure_as_the_threshold_is_not_hard():
    model = model_of(strong_threshold=1.0)
    classes = torch.arange(16).view(1, 4, 4) % 3
    logits = 900 * torch.nn.functional.one_hot(classes, 3).movedim(3, 1).double()
    assert model._contrast(logits, torch.randn(1, 4, 4, 4), classes) == 0


def moves(**keys):
    """Plain images, and what becomes of them without rescaling and mirrors."""
    model = model_of(rescale=(1, 1), flip_prob=0.0, mixing='cutmix', **keys)
    inputs, samples = tiny.batch(2, 3, ignored=0)
    batch = Batch.of(inputs.double(), samples)
    return batch.weak, model._moved(batch, torch.randint(0, 3, (3, 32, 32)),
                                    torch.rand(3, 32, 32).double())[0]


def test_boxes_of_the_size_and_as_often_as_the_keys_say():
    weak, whole = moves(cutmix_area=1.0)
    torch.testing.assert_close(whole, weak.roll(-1, 0))
    weak, none = moves(cutmix_prob=0.0)
    torch.testing.assert_close(none, weak)
    weak, half = moves()
    other = (half - weak).abs().amax(dim=1) > 1e-6
    assert ((other.double().mean(dim=(1, 2)) - 0.5).abs() < 0.05).all()


def test_an_image_of_one_pixel_counts_whole():
    """Its one pixel is sure: a share of 1."""
    model = tiny.method('ReCo', every.pointwise(), sharp=1.0, rescale=(1, 1), flip_prob=0.0,
                        strong_threshold=0.0, **COUNTS).double().eval()
    inputs, samples = tiny.batch(2, 1)
    samples[2].gt_sem_seg.data.fill_(255)
    samples[2].gt_sem_seg.data[0, 6, 6] = 0
    loss = model.loss(inputs.double(), samples)['loss_u']
    probs = model.see('teacher', inputs[2:].double()).logits.softmax(dim=1)[0, :, 6, 6]
    torch.testing.assert_close(loss.detach(), -probs.max().log())


def test_colours_come_after_mixing():
    model = model_of(rescale=(1, 1), flip_prob=0.0)
    inputs, samples = tiny.batch(2, 3, ignored=0)
    seen = []

    class Inverse(torch.nn.Module):
        def forward(self, images):
            seen.append(images)
            return 1 - images

    batch = Batch.of(inputs.double(), samples)
    labels, confidence = torch.randint(0, 3, (3, 32, 32)), torch.rand(3, 32, 32)
    model.strong_view = Inverse()
    torch.manual_seed(0)
    mixed = model._moved(batch, labels, confidence)[0]
    model.strong_view = None
    torch.manual_seed(0)
    plain = model._moved(batch, labels, confidence)[0]
    torch.testing.assert_close(seen[0] * 255, plain * 127.5 + 127.5, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(mixed, -plain, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, batch.weak)


@pytest.mark.parametrize('keys, match', [
    (dict(mixing='cutout'), "mixing must be 'classmix' or 'cutmix'"),
    (dict(sampling='image'), 'sampling'), (dict(rescale=(0, 1)), 'rescale'),
    (dict(rescale=(2, 1)), 'rescale'), (dict(weak_threshold=2), 'weak_threshold')])
def test_bad_keys(keys, match):
    with pytest.raises(ValueError, match=match):
        tiny.method('ReCo', **keys)
