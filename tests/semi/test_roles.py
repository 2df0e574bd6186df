"""Roles: what files say of their networks, and what a method builds from them."""
from __future__ import annotations

import json

import pytest
import tiny
import torch
from mmseg.registry import MODELS

from mmseg_esl.semi import Role, SemiSegmentor
from mmseg_esl.semi.roles import UNSAID, first_average, from_meta, to_meta
from mmseg_esl.storage.keys import networks_in, to_method, to_plain

ROLES = {'one': Role(), 'two': Role(), 'head': Role(plain=False),
         'head_average': Role('head', plain=False), 'average': Role('two')}


def test_meta_round_trip():
    """As plain data, which any file format can hold."""
    meta = json.loads(json.dumps(dict(networks=to_meta(ROLES, 'two'))))
    assert from_meta(meta) == (ROLES, 'two')
    assert list(from_meta(meta)[0]) == list(ROLES)


@pytest.mark.parametrize('meta', [None, {}, dict(networks=None)])
def test_a_silent_file_is_of_release_0_1_0(meta):
    roles, predicts = from_meta(meta)
    assert roles is UNSAID and predicts == 'teacher'
    assert roles == {'student': Role(), 'teacher': Role(follows='student')}


def test_what_predicts():
    assert first_average(ROLES) == 'average'  # a whole one, not the head's
    assert first_average({'a': Role(), 'b': Role()}) == 'a'


@MODELS.register_module()
class AllKinds(SemiSegmentor):
    """A toy with every kind of network."""
    roles = ROLES

    def build_own(self):
        self.head = MODELS.build(tiny.fcn())

    def step(self, batch):
        return self.supervised(batch)


def test_what_a_method_builds():
    model = tiny.method('AllKinds')
    assert list(model.named()) == list(ROLES)
    assert list(model.named(trained=True)) == ['one', 'two', 'head']
    assert list(model.named(trained=False, plain=True)) == ['average']
    assert list(model.named(trained=True, plain=False)) == ['head']
    assert model.main is model.one and model.predictor is model.average
    assert model.labeler == 'average'
    for name, source in (('average', 'two'), ('head_average', 'head')):  # copies, not the same
        mine, theirs = getattr(model, name).state_dict(), getattr(model, source).state_dict()
        for key, value in mine.items():
            assert torch.equal(value, theirs[key])
            assert value.data_ptr() != theirs[key].data_ptr()
    weights = [model.one.decode_head.conv_seg.weight, model.two.decode_head.conv_seg.weight]
    assert not torch.equal(*weights)  # initialised apart


def test_modes():
    model = tiny.method('AllKinds')
    assert model.one.training and model.head.training
    assert not model.average.training and not model.head_average.training
    model.eval()
    assert not any(m.training for m in model.modules())
    model = tiny.method('AllKinds', teacher_mode='train')
    assert model.average.training and list(model.gathering) == list(ROLES)
    assert list(tiny.method('AllKinds').gathering) == ['one', 'two', 'head']


def test_every_trained_segmentor_is_supervised():
    model = tiny.method('AllKinds')
    losses = model.loss(*tiny.batch(2, 0))
    assert {'decode.loss_ce', 'two.decode.loss_ce', 'loss_unused'} <= set(losses)
    tiny.total(losses).backward()
    for name in ('one', 'two'):
        assert getattr(model, name).decode_head.conv_seg.weight.grad.any()
    assert all(p.grad is not None and not p.grad.any() for p in model.head.parameters())


def test_keys():
    plain = {'backbone.conv.w': 1, 'decode_head.w': 2}
    filled = to_method(plain, ROLES)
    assert filled == {f'{name}.{key}': value for name in ('one', 'two', 'average')
                      for key, value in plain.items()}
    assert networks_in(filled) == ['one', 'two', 'average'] and networks_in(plain) == []
    assert to_plain(filled, 'two') == plain
    without = {k: v for k, v in filled.items() if not k.startswith('average.')}
    without['two.backbone.conv.w'] = 3
    assert to_method(without, ROLES)['average.backbone.conv.w'] == 3  # as what it follows
    with pytest.raises(ValueError, match="another method's: it holds one and no two"):
        to_method({k: v for k, v in filled.items() if k.startswith('one.')}, ROLES)
    with pytest.raises(ValueError, match="no network 'head': choose one or two or average"):
        to_plain(filled, 'head')
    with pytest.raises(ValueError, match='plain segmentor'):
        to_plain(plain, 'one')
    with pytest.raises(ValueError, match='empty'):
        to_method({}, ROLES)
