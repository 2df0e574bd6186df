"""What a term is divided by, which pixels reach a threshold, and the shares that logs show."""
from __future__ import annotations

import copy
from dataclasses import fields

import every
import pytest
import tiny
import torch

from mmseg_esl.models.segmentors import main_head
from mmseg_esl.semi import SemiSegmentor

# The rate by which CutMix-Seg's pixels count is a mean over the ranks as well as its term, and ReCo
# contrasts each rank's own images.
POWERS = {('CutMixSeg', 'loss_cons'): 2, ('ReCo', 'loss_contrast'): 0}
TERMS = [every.Case(kind) for kind in every.METHODS] + [
    every.Case('CPS', mixing=True), every.Case('CutMixSeg', counting='pixel', consistency='hard'),
    every.Case('ESLPlus', variant='dsl+ctr'), every.Case('GCT', dc_weight=0.0),
    every.Case('MeanTeacher', consistency='hard')]


@pytest.mark.parametrize('case', TERMS, ids=repr)
def test_every_mean_asks_the_divisor(case, monkeypatch):
    """As if the other ranks had three times as many pixels: each mean is half of what it was."""
    known = {field.name for field in fields(case.cls.cfg_class)}
    model = case.build(sharp=1.0, **{key: 0.0 for key in ('threshold', 'weak_threshold')
                                     if key in known}).double()
    gen = torch.Generator().manual_seed(1)
    for net in list(model.named(plain=True).values())[1:]:  # which has something to say then
        for p in net.parameters():
            p.data += 0.1 * torch.randn(p.shape, generator=gen)
    state = copy.deepcopy(model.state_dict())
    inputs, samples = tiny.batch(2, 3)
    found = []
    for times in (1, 2):
        monkeypatch.setattr(SemiSegmentor, 'divisor', property(
            lambda self, times=times: lambda count: times * count.double().clamp(min=1)))
        model.after_skipped_step()
        model.load_state_dict(state)
        torch.manual_seed(0)
        losses = model.loss(inputs.double(), samples)
        found.append({key: float(value.detach()) for key, value in losses.items()
                      if 'loss' in key})
    whole, half = found
    for key, value in whole.items():
        power = 1 if case.keys.get('counting') else POWERS.get((case.kind, key), 1)
        assert half[key] == pytest.approx(value / 2 ** power, rel=1e-6), key
        assert value > 0 or case.kind == 'GCT'  # where no pixel is bad in both, or all are


# ----------------------------------------------------------------------------------- thresholds

def certain(net, kind: int) -> None:
    """Its probability of a class is 1 everywhere, to the last bit."""
    head = main_head(net).conv_seg
    torch.nn.init.zeros_(head.weight)
    head.bias.data = 500.0 * torch.eye(3)[kind].to(head.bias.dtype)


@pytest.mark.parametrize('kind, key, term, keys', [
    ('AugSeg', 'threshold', 'loss_u', {}), ('CutMixSeg', 'threshold', 'loss_cons', {}),
    ('ESLPlus', 'threshold', 'loss_sce', dict(weighting='threshold')),
    ('FixMatch', 'threshold', 'loss_u', dict(labels_by='teacher')),
    ('PSMT', 'threshold', 'loss_u', {}), ('ReCo', 'strong_threshold', 'loss_u', {}),
    ('ReCo', 'weak_threshold', 'loss_contrast', {}),
    ('UniMatch', 'threshold', 'loss_u', dict(labels_by='teacher')),
    ('UniMatchV2', 'threshold', 'loss_u', {})])
def test_as_sure_as_the_threshold_is_sure_enough(kind, key, term, keys):
    found = []
    for threshold in (0.5, 1.0):
        model = every.Case(kind, **keys).build(**{key: threshold}, sharp=1.0)
        for net in model.named(trained=False, plain=True).values():
            certain(net, 1)
        torch.manual_seed(0)
        found.append(model.loss(*tiny.batch(2, 3))[term].detach())
    assert found[0] == found[1] > 0


# --------------------------------------------------------------------------------------- shares

def few(pixels: int):
    """Two labelled images and one unlabelled, of which so many pixels are no padding."""
    inputs, samples = tiny.batch(2, 1)
    label = samples[2].gt_sem_seg.data
    label.fill_(255)
    label[0, 4, 4:4 + 8 * pixels:8] = 0  # where maps of stride 8 are read
    return inputs, samples


def said(kind, batch, **keys):
    """What a step of a network without global pooling tells of itself."""
    model = every.Case(kind).build(tiny.segmentor(decode_head=tiny.fcn()), sharp=1.0, **keys)
    return stepped(model, batch)


def stepped(model, batch):
    model.loss(*batch)
    return model.diagnostics.pop()


@pytest.mark.parametrize('pixels', [1, 4])
@pytest.mark.parametrize('kind, keys', [
    ('CorrMatch', dict(threshold=0.0)), ('CutMixSeg', dict(threshold=0.0)),
    ('CutMixSeg', dict(threshold=0.0, counting='pixel')),
    ('FixMatch', dict(threshold=0.0)), ('PSMT', dict(threshold=0.0)),
    ('ReCo', dict(strong_threshold=0.0, rescale=(1, 1))),
    ('UniMatch', dict(threshold=0.0)), ('UniMatchV2', dict(threshold=0.0))])
def test_all_pixels_are_confident(kind, keys, pixels):
    """All that there are, padding left out, be it one or several."""
    assert said(kind, few(pixels), **keys)['confident'] == 1
    if kind not in ('CorrMatch', 'ReCo'):
        assert said(kind, few(pixels), **{**keys, 'threshold': 1.1 if 'V2' not in kind else 1.0}
                    )['confident'] == 0


@pytest.mark.parametrize('pixels', [1, 4])
def test_shares_of_other_kinds(pixels):
    found = said('CorrMatch', few(pixels), threshold=0.0)
    assert found['spread'] == 1 and 0 < found['threshold'] < 1
    assert said('PseudoSeg', few(pixels), temperature=0.05, cutout=0)['confidence'] > 0.5
    found = said('ESL', few(pixels), variant='dsl')
    assert sum(found[f'dominant/{n}'] for n in ('1', '2', '3_or_more')) == pytest.approx(1)
    assert 1 <= found['dominant/mean'] <= 3 and 1 / 3 <= found['confidence'] <= 1
    inputs, samples = few(pixels)
    for sample in samples[:2]:
        sample.gt_sem_seg.data.fill_(255)
    assert said('GCT', (inputs, samples), dc_weight=0.0)['both bad'] == 1


def test_what_labels_itself_may_be_as_sure_as_the_threshold():
    for kind in ('FixMatch', 'UniMatch', 'CorrMatch'):
        keys = dict(threshold_momentum=1.0) if kind == 'CorrMatch' else {}
        model = every.Case(kind).build(cutmix_prob=1.0, **{**keys, 'threshold': 1.0})
        certain(model.student, 1)
        assert stepped(model, tiny.batch(2, 3))['confident'] == 1, kind


@pytest.mark.parametrize('same', [True, False])
@pytest.mark.parametrize('pixels', [1, 4])
def test_agreement(pixels, same):
    model = tiny.method('CPS', tiny.segmentor(decode_head=tiny.fcn()))
    for kind, net in enumerate(model.named(plain=True).values()):
        certain(net, 1 if same else kind)
    inputs, samples = few(pixels)
    for sample in samples[:2]:
        sample.gt_sem_seg.data.fill_(255)
    assert stepped(model, (inputs, samples))['agreement'] == same


def test_who_learns_from_whom(monkeypatch):
    model = tiny.method('GCT', sharp=1.0)
    maps = iter([torch.ones(4, 32, 32), torch.zeros(4, 32, 32)])
    monkeypatch.setattr('mmseg_esl.methods.gct.handle_flaws', lambda *args: next(maps))
    found = stepped(model, tiny.batch())
    assert [found[key] for key in ('learns/first', 'learns/second', 'both bad')] == [1, 0, 0]


def test_the_bounds_are_no_part_of_what_is_kept():
    """GTA-Seg drops the pixels of the lowest confidence, U2PL those of the highest entropy."""
    inputs, samples = tiny.batch(2, 3)
    inputs = inputs.double()
    valid = torch.cat([s.gt_sem_seg.data for s in samples[2:]]) != 255

    model = tiny.method('GTASeg', sharp=0.3, dropped=0.0, cutmix_prob=0.0).double()
    probs = model.see('teacher', inputs[2:]).logits.softmax(dim=1)
    sure = probs.amax(dim=1)[valid]
    want = float((sure > sure.min()).double().mean())
    assert stepped(model, (inputs, samples))['kept'] == pytest.approx(want) != 1

    model = every.Case('U2PL').build(sharp=0.3, unreliable=0.0, cutmix_prob=0.0).double()
    probs = model.see('teacher', torch.cat([inputs[:2], inputs[2:]])).logits[2:].softmax(dim=1)
    entropy = -(probs * probs.log()).sum(dim=1)[valid]
    low, high = entropy == entropy.min(), entropy == entropy.max()
    seen, contrast = [], model._contrast
    model._contrast = lambda *args: seen.append(args) or contrast(*args)
    assert stepped(model, (inputs, samples))['kept'] == pytest.approx(
        float((~high).double().mean())) != 1
    (_, _, _, reliable, negative, _), = seen
    assert torch.equal(reliable[2:][valid], low) and torch.equal(negative[2:][valid], high)
