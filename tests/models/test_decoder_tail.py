"""The tail of every kind of head gives the head's own logits."""
import pytest
import tiny
import torch
from mmengine.registry import init_default_scope

from mmseg_esl.models.decoder_tail import DecoderTail
from mmseg_esl.models.feature_tap import FeatureTap
from mmseg_esl.models.segmentors import build_segmentor, main_head


def head(kind, **changes):
    plain = tiny.fcn()
    plain.pop('num_convs'), plain.pop('concat_input')
    return dict(plain, type=kind, **changes)


LEVELS = dict(in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3], dropout_ratio=0.1)
KINDS = {
    'sep_bottleneck': tiny.segmentor()['decode_head'],
    'convs': dict(tiny.fcn(), dropout_ratio=0.1),
    'conv_cat': tiny.fcn(concat_input=True),
    'bottleneck': head('PSPHead', pool_scales=(1, 2)),
    'fpn_bottleneck': head('UPerHead', **LEVELS),
    'fusion_conv': head('SegformerHead', **LEVELS),
    'conv_seg': head('NLHead', concat_input=False)}


@pytest.mark.parametrize('name', KINDS)
def test_tail_of_a_head(name):
    init_default_scope('mmseg')
    net = build_segmentor(tiny.segmentor(decode_head=KINDS[name]))
    modes = [m.training for m in net.modules()]
    statistics = {k: v.clone() for k, v in net.state_dict().items()}
    tail = DecoderTail.of(net)
    assert tail.name == name
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, statistics[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    net.eval()
    images = tiny.batch(2, 0)[0]
    tap = FeatureTap(getattr(main_head(net), name), name)
    with torch.no_grad(), tap.listen():
        logits = net(images, mode='tensor')
    features = tap.take()
    with torch.no_grad():
        torch.testing.assert_close(tail(net, features), logits)
        with tail.given(net, lambda x: x + 1):
            changed = net(images, mode='tensor')
        torch.testing.assert_close(changed, tail(net, features + 1))
        assert torch.equal(net(images, mode='tensor'), logits)  # no hook is left


def test_cascade():
    init_default_scope('mmseg')
    net = build_segmentor(tiny.cascade())
    assert DecoderTail.of(net).name == 'conv_seg'  # its last module is given two things
    net.eval()
    tap = FeatureTap(main_head(net).conv_seg, 'conv_seg')
    with torch.no_grad(), tap.listen():
        logits = net(tiny.batch(1, 0)[0], mode='tensor')
    torch.testing.assert_close(DecoderTail('conv_seg')(net, tap.take()), logits)


def test_head_without_classifier_is_named():
    init_default_scope('mmseg')
    net = build_segmentor(tiny.segmentor())
    del net.decode_head.conv_seg
    with pytest.raises(ValueError, match='DepthwiseSeparableASPPHead has no conv_seg.*decode_head'):
        DecoderTail.of(net)
