"""CutMix-Seg against a second implementation, written from the paper's code description."""
from __future__ import annotations

import every
import pytest
import straight
import tiny
import torch

TAU = 0.6


def build(seg=None, **semi):
    semi = dict(threshold=TAU, **semi)
    return straight.settle(tiny.method('CutMixSeg', seg, sharp=1.0, **semi).double())


@pytest.mark.parametrize('counting', ['rate', 'pixel'])
@pytest.mark.parametrize('consistency', ['mse', 'hard'])
def test_against_a_straight_line(consistency, counting):
    model = build(consistency=consistency, counting=counting, consistency_weight=3.0,
                  ema_momentum=0.4)
    student, teacher = (straight.Net(getattr(model, name)) for name in ('student', 'teacher'))
    shares = []

    def reference(number, images, labels, views):
        (boxes, ), known, unknown = views, images[:2], images[2:]
        target = straight.cut(boxes, teacher.frozen(unknown))  # of the unmixed images
        valid = straight.cut(boxes, labels[2:] != 255)
        supervised = straight.supervised(student(known), labels[:2])  # a forward of its own
        logits = student(straight.cut(boxes, unknown))
        classes, confidence = straight.best(target)
        sure = (confidence >= TAU) & valid
        if consistency == 'hard':
            each = straight.entropies(logits, classes)
        else:
            each = (logits.softmax(1) - target.softmax(1)).pow(2).sum(1)
        shares.append(float(sure.double().sum() / valid.sum()))
        if counting == 'pixel':
            term = each[sure].sum() / valid.sum()
        else:
            term = shares[-1] * each[valid].mean()
        found = straight.stepped(
            {'decode.loss_ce': supervised, 'loss_cons': 3 * term}, student)
        teacher.follow(student, 0.4)
        return found

    straight.compare(model, reference, {'student': student, 'teacher': teacher})
    assert all(0.05 < share < 0.95 for share in shares)  # the threshold decides


def test_one_pixel_by_hand(monkeypatch):
    """(0.8, 0.2) against (0.99, 0.01), one of two pixels confident: 0.5 * 2 * 0.19^2."""
    model = tiny.method('CutMixSeg', num_classes=2).eval()
    inputs, samples = tiny.batch(2, 1, 2, ignored=0)  # an image alone is its own partner
    sure = torch.tensor([0.99, 0.01]).log().view(1, 2, 1, 1).expand(1, 2, 32, 32)
    unsure = torch.tensor([0.61, 0.39]).log().view(1, 2, 1, 1)  # (0.8 - 0.61)^2 is the same
    target = torch.where(torch.arange(32) < 16, sure, unsure)
    mine = torch.tensor([0.8, 0.2]).log().view(1, 2, 1, 1).expand(1, 2, 32, 32)
    monkeypatch.setattr(model.teacher, 'encode_decode', lambda *_: target)
    monkeypatch.setattr(model.student, 'encode_decode', lambda *_: mine)
    # a head with a prediction of its own is asked for it, not run by its parts
    monkeypatch.setattr(type(model.student.decode_head), 'predict_by_feat', lambda *_: None)
    loss = model.loss(inputs, samples)['loss_cons']
    assert float(loss) == pytest.approx(0.5 * 0.0722, rel=1e-5)
    assert model.diagnostics.pop()['confident'] == 0.5


def test_equal_networks_agree_where_nothing_is_mixed():
    model = build().eval()
    model.cfg.threshold = 0.0
    inputs, samples = tiny.batch(2, 1)  # an image alone is its own partner
    assert model.loss(inputs.double(), samples)['loss_cons'] < 1e-20
    inputs, samples = tiny.batch(2, 2)
    assert model.loss(inputs.double(), samples)['loss_cons'] > 1e-6


def test_whole_boxes_are_the_next_images():
    """M = 1 everywhere: as if the next image had been there."""
    model = tiny.method('CutMixSeg', sharp=1.0, threshold=0.0, cutmix_area=1.0).double().eval()
    gen = torch.Generator().manual_seed(0)
    for p in model.teacher.parameters():
        p.data += 0.05 * torch.rand(p.shape, generator=gen)
    inputs, samples = tiny.batch(2, 3)
    whole = model.loss(inputs.double(), samples)['loss_cons']
    model.cfg.cutmix, model.cfg.cutmix_prob = 'batch', 0.0
    alone = model.loss(inputs.double(), samples)['loss_cons']  # a sum over images
    torch.testing.assert_close(whole, alone, rtol=1e-12, atol=0)
    assert whole > 1e-3


def test_law_of_its_boxes():
    """Half the area within rounding, the logarithm of the height uniform in [ln 0.5, 0]."""
    model, size = tiny.method('CutMixSeg'), 96
    masks = model.strong(torch.zeros(1000, 3, size, size)).boxes
    height = masks.any(dim=2).sum(dim=1).double()
    width = masks.any(dim=1).sum(dim=1).double()
    assert torch.equal(masks.sum(dim=(1, 2)).double(), height * width)
    assert ((height * width / size ** 2 - 0.5).abs() <= 1 / size).all()
    logs = (height / size).log() / torch.tensor(0.5).log()
    assert -0.02 < logs.min() < 0.02 and 0.98 < logs.max() < 1.02
    for share in (0.25, 0.5, 0.75):
        assert float((logs < share).double().mean()) == pytest.approx(share, abs=0.04)


def test_the_rate_is_that_of_valid_pixels():
    """Confident padding does not count."""
    model = tiny.method('CutMixSeg', every.pointwise(), threshold=0.5).eval()
    inputs, samples = tiny.batch(2, 2, ignored=16)
    found = [model.loss(inputs, samples)['loss_cons'].detach()]
    first = model.diagnostics.pop()['confident']
    inputs[..., -16:] *= 100  # sure of whatever it is
    found.append(model.loss(inputs, samples)['loss_cons'].detach())
    assert model.diagnostics.pop()['confident'] == first


def test_the_share_over_ranks_divides_by_the_divisor():
    model = tiny.method('CutMixSeg')
    sure, valid = torch.rand(2, 5, 5) < 0.3, torch.rand(2, 5, 5) < 0.8
    own = model._share((sure & valid).float(), valid)
    assert float(own) == pytest.approx(int((sure & valid).sum()) / int(valid.sum()))
    type(model).divisor = property(lambda self: lambda count: count.double() / 2)
    try:
        assert model._share((sure & valid).float(), valid) == 2 * own
    finally:
        del type(model).divisor


def test_frozen_batch_norm():
    """norm_eval of the backbone keeps its statistics in both networks, affine parts train."""
    seg = tiny.segmentor()
    seg['backbone']['norm_eval'] = True
    model = tiny.method('CutMixSeg', seg)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    tiny.total(model.loss(*tiny.batch())).backward()
    optimizer.step()
    model.after_optimizer_step(0)
    for key, value in model.state_dict().items():
        if '.backbone.' in key and 'running' in key:
            assert torch.equal(value, before[key]), key
    assert model.student.backbone.stem[1].weight.grad.any()
    key = 'student.decode_head.bottleneck.bn.running_mean'
    assert not torch.equal(model.state_dict()[key], before[key])


@pytest.mark.parametrize('keys, name', [
    (dict(consistency='kl'), 'consistency'), (dict(counting='none'), 'counting'),
    (dict(cutmix='whole'), 'cutmix')])
def test_bad_keys(keys, name):
    with pytest.raises(ValueError, match=f'{name}.*{list(keys.values())[0]}'):
        tiny.method('CutMixSeg', **keys)
