"""tools/cost.py counts what a layer-by-layer count gives."""
import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from mmseg_esl.doctor import cost


def config(variant='dsl+ctr', kind='num', **changes):
    counts = {f'{kind}_labeled': 2, f'{kind}_unlabeled': 3}
    return Config(dict(
        model=tiny.esl_cfg(variant),
        train_dataloader=dict(batch_size=5, batch_sampler=dict(type='SemiBatchSampler', **counts)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1)), train_cfg=dict(max_iters=10),
        **changes))


def by_hand(cfg) -> tuple:
    """Operations of every convolution of encoder and decoder (with projector), from its shapes."""
    init_default_scope('mmseg')
    model, found = MODELS.build(cfg.model).eval(), dict(encoder=0, decoder=0)
    nets = dict(model.student.named_children(), projector=getattr(model, 'projector', None))
    for name, net in nets.items():
        part = 'encoder' if name == 'backbone' else 'decoder'
        for module in net.modules() if net is not None else ():
            if isinstance(module, nn.Conv2d):
                def add(conv, _, out, part=part):
                    one = conv.in_channels // conv.groups * conv.kernel_size[0] ** 2
                    found[part] += 2 * out.numel() * one
                module.register_forward_hook(add)
    with torch.no_grad():
        model.student.encode_decode(torch.zeros(1, 3, 32, 32), [dict(img_shape=(32, 32))])
        if nets['projector'] is not None:
            nets['projector'](torch.zeros(1, 12, 8, 8))  # what the classifier reads, at stride 4
    return found['encoder'], found['decoder']


@pytest.mark.parametrize('variant', ['dsl+ctr', 'sup'])
def test_flops_against_every_convolution(variant):
    cfg = config(variant)
    assert cost.forward_flops(cfg) == by_hand(cfg) and min(by_hand(cfg)) > 0


@pytest.mark.parametrize('variant, forwards', [
    ('dsl+ctr', 3 * 5 + 5), ('dsl', 3 * 5 + 3), ('sup', 3 * 2)])
def test_forwards(variant, forwards):
    assert cost.passes_per_step(config(variant)) == (forwards, forwards)
    assert cost.passes_per_step(config(variant, 'total')) == (forwards, forwards)


def other(kind, **semi):
    cfg = config()
    cfg.model = dict(type=kind, segmentor=tiny.segmentor(), semi_train_cfg=semi)
    return cfg


@pytest.mark.parametrize('kind, semi', [
    ('CPS', {}), ('MeanTeacher', {}), ('MeanTeacher', dict(consistency='hard')), ('FixMatch', {}),
    ('FixMatch', dict(labels_by='teacher')), ('UniMatch', {}),
    ('UniMatch', dict(labels_by='teacher')), ('Supervised', {})])
def test_passes_are_the_forwards_of_a_real_step(kind, semi):
    """Images that go through any backbone and any decode head, each backward for two more."""
    cfg, seen = other(kind, **semi), dict(backbone=0, decode_head=0)
    init_default_scope('mmseg')
    with tiny.quiet():
        model = MODELS.build(cfg.model)
        model.init_weights()
    model.driven = True
    for net in model.named(plain=True).values():
        for name in seen:
            part = getattr(net, name)
            call = part.forward

            def count(feats, *args, name=name, call=call, **kwargs):
                images = feats if name == 'backbone' else feats[0]
                seen[name] += len(images) * (3 if torch.is_grad_enabled() else 1)
                return call(feats, *args, **kwargs)

            part.forward = count
    model.train()
    model.loss(*tiny.batch(2, 3))
    assert (seen['backbone'], seen['decode_head']) == cost.passes_per_step(cfg)


def test_a_plain_segmentor_is_named():
    cfg = config()
    cfg.model = tiny.segmentor()
    with pytest.raises(ValueError, match="'EncoderDecoder' is no method"):
        cost.passes_per_step(cfg)


def test_row(tmp_path):
    path = tmp_path / 'some.py'
    path.write_text(config().pretty_text)
    cells = dict(zip(cost.HEAD, cost.row(str(path), tflops=1e-9, gpus=1)))
    step = sum(by_hand(config())) * 20
    assert cells['config'] == 'some.py' and cells['iterations'] == 10
    assert cells['GPU hours'] == round(step * 10 / 1e3 / 3600) > 0
