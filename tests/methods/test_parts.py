"""The parts that methods add: as the config says, and as the paper has them if it is silent."""
from __future__ import annotations

import pytest
import tiny
import torch
from mmseg.models import FCNHead
from mmseg.registry import MODELS
from torch import nn

from mmseg_esl.models.segmentors import classifiers


def convs(module) -> list:
    """(out, in, kernel) of its convolutions."""
    return [(m.out_channels, m.in_channels, m.kernel_size[0]) for m in module.modules()
            if isinstance(m, nn.Conv2d)]


def drops(module) -> list:
    return [m.p for m in module.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d)) and m.p]


def build(kind, semi=None, **own):
    return tiny._built({**tiny.method_cfg(kind, **(semi or {})), **own}, 0.0, False)


GROUPS = dict(type='GN', num_groups=1)
TOLD = [
    ('ESL', {}, 'projector', dict(channels=14), lambda p: p.out_channels == 14),
    ('ESL', {}, 'part_memory', dict(num_parts=3), lambda m: m.num_parts == 3),
    ('ESLPlus', dict(variant='dsl+ctr'), 'projector', dict(channels=14),
     lambda p: p.out_channels == 14),
    ('GCT', {}, 'flaw_detector', dict(channels=6, norm_cfg=tiny.NORM),
     lambda p: convs(p)[0][0] == 6),
    ('PC2Seg', {}, 'projector', dict(channels=14), lambda p: p.out_channels == 14),
    ('ReCo', {}, 'projector', dict(channels=14), lambda p: p.out_channels == 14),
    ('U2PL', {}, 'projector', dict(channels=14), lambda p: p.out_channels == 14),
    ('U2PL', {}, 'class_queues', dict(length=7, first_length=9),
     lambda q: q.lengths == [9, 7, 7]),
    ('CorrMatch', {}, 'correlation', dict(norm_cfg=GROUPS),
     lambda p: any(isinstance(m, nn.GroupNorm) for m in p.modules())),
    ('PseudoSeg', {}, 'attention', dict(norm_cfg=GROUPS),
     lambda p: any(isinstance(m, nn.GroupNorm) for m in p.modules())),
    ('CCT', {}, 'aux_decoders', dict(vat=0, dropout=2), lambda p: p.kinds.count('dropout') == 2
     and 'vat' not in p.kinds)]


@pytest.mark.parametrize('kind, semi, part, cfg, fits', TOLD, ids=[case[0] for case in TOLD])
def test_as_the_config_says(kind, semi, part, cfg, fits):
    assert fits(getattr(build(kind, semi, **{part: cfg}), part))


def test_the_norm_of_a_part_is_the_segmentors():
    """Where the config names none."""
    seg = tiny.segmentor(decode_head=tiny.fcn(norm_cfg=GROUPS))
    for kind, part in (('CorrMatch', 'correlation'), ('PseudoSeg', 'attention'),
                       ('ReCo', 'projector')):
        module = getattr(tiny._built(tiny.method_cfg(kind, seg), 0.0, False), part)
        assert any(isinstance(m, nn.GroupNorm) for m in module.modules()), kind


@pytest.mark.parametrize('kind, layers, dropped', [
    # tapped features of 12 channels; two 1 x 1 layers of width 128 / one 3 x 3 block and a 1 x 1
    # layer of width 256 / two such blocks, which drop a tenth of their channels
    ('PC2Seg', [(128, 12, 1), (128, 128, 1)], []),
    ('ReCo', [(256, 12, 3), (256, 256, 1)], []),
    ('U2PL', [(256, 12, 3), (256, 256, 3), (256, 256, 1)], [0.1, 0.1])])
def test_representation_heads_as_their_papers_have_them(kind, layers, dropped):
    head = build(kind, projector=None).projector
    assert type(head).__name__ == 'RepresentationHead'
    assert convs(head) == layers and drops(head) == dropped


@pytest.mark.parametrize('kind, semi, paths', [
    ('ESL', {}, ('decode_head.conv_seg',)), ('ESL', dict(variant='dsl'), ()),
    ('U2PL', {}, ('decode_head.conv_seg',)), ('ReCo', {}, ('decode_head.conv_seg',)),
    ('PC2Seg', {}, ('decode_head.conv_seg',)), ('CCT', {}, ('decode_head.conv_seg',)),
    ('PSMT', {}, ('decode_head.sep_bottleneck',)), ('PSMT', dict(vat_radius=0.0), ())])
def test_which_module_is_listened_to(kind, semi, paths):
    assert tuple(build(kind, semi).tapped) == paths


# ----------------------------------------------------------------------------------- fallbacks

@MODELS.register_module()
class ScoringHead(FCNHead):
    """Its classifier has another name than mmseg's heads give it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.score = self.conv_seg
        del self.conv_seg

    def init_weights(self):
        nn.init.normal_(self.score.weight, std=0.1)

    def cls_seg(self, feat):
        return self.score(feat)


def settled(kind, settings):
    """The method's config on such a head, with what a fallback says."""
    cfg = tiny.method_cfg(kind, tiny.segmentor(decode_head=dict(tiny.fcn(), type='ScoringHead')))
    for key, value in settings.items():
        cfg[key] = {**cfg.get(key, {}), **value} if isinstance(value, dict) else value
    return cfg


@pytest.mark.parametrize('kind', ['CCT', 'ESL', 'ESLPlus', 'PC2Seg', 'ReCo', 'U2PL'])
def test_a_classifier_of_another_name_is_found(kind):
    cls = MODELS.get(kind)
    if kind == 'ESLPlus':  # without the contrast it taps nothing
        cls = type('Contrasting', (cls,), dict(parse_cfg=classmethod(
            lambda own, cfg: MODELS.get(kind).parse_cfg({**(cfg or {}), 'variant': 'dsl+ctr'}))))
    net = tiny._built(settled('Supervised', {}), 0.0, False).student
    assert classifiers(net) == ['decode_head.score']
    if kind != 'ESLPlus':
        with pytest.raises(ValueError, match='conv_seg'):
            tiny._built(settled(kind, {}), 0.0, False)
    for number, (settings, said) in enumerate(cls.fallbacks(net)):
        model = tiny._built(settled(kind, settings), 0.0, True)
        assert torch.isfinite(tiny.total(model.loss(*tiny.batch())))
        if not number:
            assert model.embedding == 'decode_head.score' and "'decode_head.score'" in said
    assert number == (kind in ('ESL', 'ESLPlus'))  # those can do without the contrast


def test_without_it_others_go_on():
    net = tiny._built(settled('Supervised', {}), 0.0, False).student
    with pytest.raises(ValueError, match='conv_seg'):
        tiny._built(settled('PSMT', {}), 0.0, False)
    (settings, said), = MODELS.get('PSMT').fallbacks(net)
    model = tiny._built(settled('PSMT', settings), 0.0, False)
    assert model.tail is None and 'without' in said
    assert torch.isfinite(tiny.total(model.loss(*tiny.batch())))
    (settings, _), = MODELS.get('GTASeg').fallbacks(net)
    cfg = dict(tiny.method_cfg('GTASeg'), classifier=('sep_bottleneck', 'conv_seg'))
    model = tiny._built({**cfg, **settings}, 0.0, False)
    kept = {name for name, _ in model.student.named_parameters()} - set(model.shared)
    assert kept == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
