"""Every method's networks are plain segmentors: from a plain checkpoint, and to one."""
from __future__ import annotations

import every
import pytest
import tiny
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_esl.storage.keys import networks_in, to_plain

each = pytest.mark.parametrize('case', every.CASES, ids=repr)


def plain(cfg=None, seed=5):
    init_default_scope('mmseg')
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(cfg or tiny.segmentor()))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    for name, buffer in model.named_buffers():
        if 'running' in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    return model


@each
def test_each_network_exports_to_a_plain_segmentor(case):
    model = case.build()
    gen = torch.Generator().manual_seed(2)
    for net in model.named(plain=True).values():  # none like another
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.data += 0.05 * torch.rand(tensor.shape, generator=gen)
    model.eval()
    images, found = tiny.batch(2, 0)[0], []
    assert networks_in(model.state_dict()) == list(model.named(plain=True))
    for name, net in model.named(plain=True).items():
        alone = plain()
        alone.load_state_dict(to_plain(model.state_dict(), name), strict=True)
        with torch.no_grad():
            found.append(alone.eval()(images, mode='tensor'))
            assert torch.equal(found[-1], net(images, mode='tensor'))
            model.semi_test_cfg['predict_on'] = name
            assert torch.equal(found[-1], model(images, mode='tensor'))
    assert not any(torch.equal(found[0], other) for other in found[1:])


@each
def test_a_plain_checkpoint_fills_every_network(case):
    model, given = case.build(), plain().state_dict()
    rest = {key: value.clone() for key, value in model.state_dict().items()
            if key.split('.')[0] not in model.named(plain=True)}
    model.load_state_dict(given, strict=False)
    for name in model.named(plain=True):
        assert every.differing(every.part(model, name), given) == []
    assert all(torch.equal(model.state_dict()[key], value) for key, value in rest.items())


@each
def test_a_round_trip(case):
    one, two = case.build(sharp=1.0), case.build(start=False)
    for value in one.state_dict().values():
        value.add_(1 if value.dtype != torch.bool else False)
    two.load_state_dict(one.state_dict(), strict=True)
    assert every.differing(one.state_dict(), two.state_dict()) == []


@each
def test_another_backbone_is_refused_by_name(case):
    model = case.build()
    wide = plain(tiny.segmentor(backbone=dict(tiny.segmentor()['backbone'], stem_channels=16)))
    first = next(iter(model.named(plain=True)))
    with pytest.raises(ValueError, match=rf'another architecture.* {first}\.backbone\.stem'):
        model.load_state_dict(wide.state_dict(), strict=False)
    for name in model.named(plain=True):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        key = f'{name}.backbone.stem.0.weight'
        state[key] = state[key][:2]
        with pytest.raises(ValueError, match=rf'another architecture.* {name}\.backbone\.stem'):
            model.load_state_dict(state, strict=False)


@each
def test_the_network_to_evaluate_is_one_of_its_own(case):
    with pytest.raises(ValueError, match="predict_on.*'nobody'"):
        case.build(test_cfg=dict(predict_on='nobody'))
