"""Auxiliary decoders: what they cost, whom they teach, and how they are numbered."""
import weakref

import pytest
import torch

from mmseg_esl.functional import probability_mse
from mmseg_esl.models import AuxDecoders

NONE = dict(vat=0, dropout=0, cutout=0, context=0, objects=0, feature_drop=0, feature_noise=0)


def data(size=16, classes=3):
    gen = torch.Generator().manual_seed(0)
    z = torch.rand(2, 5, size // 2, size // 2, generator=gen, dtype=torch.float64)
    logits = 2 * torch.randn(2, classes, size, size, generator=gen, dtype=torch.float64)
    valid = torch.rand(2, size, size, generator=gen) < 0.8
    return z.requires_grad_(), logits.requires_grad_(), valid


def build(**counts):
    torch.manual_seed(1)
    return AuxDecoders(5, 3, **{**NONE, **counts}).double()


def test_as_many_as_the_release():
    aux = AuxDecoders(8, 3)
    assert len(aux.decoders) == 30
    assert [aux.kinds.count(kind) for kind in ('vat', 'dropout', 'cutout', 'context', 'objects',
                                               'feature_drop', 'feature_noise')] == [
        2, 6, 6, 2, 2, 6, 6]
    assert len({id(d.weight) for d in aux.decoders}) == 30
    aux.init_weights()
    assert not torch.equal(aux.decoders[0].weight, aux.decoders[1].weight)
    without = AuxDecoders(8, 3, background_class=None)
    assert len(without.decoders) == 20 and not {'cutout', 'context', 'objects'} & {*without.kinds}


def test_none_is_refused():
    with pytest.raises(ValueError, match='there is none'):
        AuxDecoders(8, 3, **NONE)
    with pytest.raises(ValueError, match='background_class'):
        AuxDecoders(8, 3, background_class=None, **{**NONE, 'cutout': 4})


@pytest.mark.parametrize('kind', NONE)
def test_gradients_are_those_of_a_plain_backward(kind, monkeypatch):
    """Without running anything again: the same figures to the last few bits."""
    found = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr('mmseg_esl.models.aux_decoders.checkpoint',
                                lambda function, *args, use_reentrant: function(*args))
        aux, (z, logits, valid) = build(**{kind: 3}), data()
        torch.manual_seed(7)
        loss = aux.consistency(z, logits, valid)
        loss.backward()
        assert logits.grad is None
        found.append([loss.detach(), z.grad, *(p.grad for p in aux.parameters())])
    for a, b in zip(*found):
        assert a.any()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def test_context_and_objects_are_two_halves():
    """With the same decoder the two features add up to the whole."""
    aux = build(context=1, objects=1)
    z, logits, valid = data()
    size, every = z.shape[-2:], torch.ones(2, 8, 8, dtype=torch.bool)
    fore = torch.rand(2, *size) < 0.5
    halves = [aux._perturbed(kind, z, None, every, fore, None, logits)
              for kind in ('context', 'objects')]
    assert torch.equal(halves[0] + halves[1], z) and not (halves[0] * halves[1]).any()
    assert torch.equal(halves[0] != 0, fore[:, None].expand_as(z))


def test_equal_decoders_of_unchanged_features_agree():
    aux = build(feature_noise=4)
    aux.noise_width = 0.0
    z, _, valid = data(16)
    for decoder in aux.decoders[1:]:
        decoder.load_state_dict(aux.decoders[0].state_dict())
    main = torch.nn.functional.interpolate(aux.decoders[0](z), (16, 16), mode='bilinear')
    assert aux.consistency(z, main, valid) < 1e-30
    other = main + 1 * torch.arange(3).view(1, 3, 1, 1)
    want = probability_mse(main, other, valid)
    torch.testing.assert_close(aux.consistency(z, other, valid), want)


@pytest.mark.parametrize('kind', NONE)
def test_memory_does_not_grow_with_the_decoders(kind):
    """Of each one nothing is kept but the gradient of its logits, at their own size, and noise."""
    held = []
    for count in (1, 9):
        aux, saved = build(**{kind: count}), []

        def keep(x, saved=saved):
            saved.append(weakref.ref(x))
            return x

        z, logits, valid = data(64)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = aux.consistency(z, logits, valid)
        there = [x() for x in saved if x() is not None]  # not what a gradient at once has freed
        held.append(sum({(x.data_ptr(), x.dtype): x.nbytes for x in there}.values()))
        del there
        loss.backward()
    own = logits.nbytes / 4
    noise = z.nbytes if kind == 'vat' else 0
    assert held[1] - held[0] < 8 * (1.05 * own + noise)


def test_half_precision():
    aux = AuxDecoders(5, 3)
    z, logits, valid = data()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = aux.consistency(z.detach().bfloat16().requires_grad_(), logits.bfloat16(), valid)
    assert loss.dtype == torch.float32 and loss > 0
    loss.backward()
