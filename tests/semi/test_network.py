"""How one network is run: modes, statistics, the seam between encoder and decoder."""
from __future__ import annotations

import pytest
import tiny
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models import FCNHead
from mmseg.registry import MODELS

from mmseg_esl.models.running import running
from mmseg_esl.models.segmentors import build_segmentor, metas_of
from mmseg_esl.semi import Batch, network


def build(cfg=None):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return build_segmentor(ConfigDict(cfg or tiny.segmentor())).train()


def statistics(net):
    return {k: v.clone() for k, v in net.state_dict().items()
            if 'running' in k or 'num_batches' in k}


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


def flags(net):
    return [m.track_running_stats for m in net.modules() if hasattr(m, 'track_running_stats')]


@pytest.mark.parametrize('mode', ['train', 'eval', None])
def test_every_module_gets_its_own_mode_back(mode):
    net = build()
    net.backbone.layer1.eval()  # as norm_eval or frozen stages would
    before = [m.training for m in net.modules()]
    assert len(set(before)) == 2
    with running(net, mode):
        inside = [m.training for m in net.modules()]
    assert {'train': all(inside), 'eval': not any(inside), None: inside == before}[mode]
    assert [m.training for m in net.modules()] == before
    with pytest.raises(RuntimeError, match='within'):
        with running(net, mode, statistics=False):
            raise RuntimeError('within')
    assert [m.training for m in net.modules()] == before and all(flags(net))


def test_without_statistics_it_normalises_by_the_batch_and_keeps_its_own():
    images = tiny.batch()[0]
    net, other = build(), build()
    before = statistics(net)
    with torch.no_grad():
        with running(net, statistics=False):
            found = network.see(net, images).logits
        want = network.see(other, images).logits  # as usual: by the batch, and it is remembered
    assert torch.equal(found, want)
    assert same(statistics(net), before) and not same(statistics(other), before)


def test_in_eval_mode_it_normalises_by_its_own():
    images, net = tiny.batch()[0], build().eval()
    with torch.no_grad():
        want = net.encode_decode(images, metas_of(images))
        with running(net, statistics=False):
            assert torch.equal(network.see(net, images).logits, want)
        with running(net.train(), 'eval', statistics=False):
            assert torch.equal(network.see(net, images).logits, want)


def test_norms_without_statistics_stay_without():
    seg = tiny.segmentor()
    seg['decode_head']['norm_cfg'] = dict(type='BN', requires_grad=True, track_running_stats=False)
    net = build(seg)
    before = flags(net)
    assert len(set(before)) == 2
    with running(net, statistics=False):
        network.see(net, tiny.batch()[0])
    assert flags(net) == before


# ----------------------------------------------------------------------------------------- seam

def seen(net, **kwargs):
    with torch.no_grad():
        return network.see(net.eval(), tiny.batch()[0], **kwargs).logits


def test_an_identity_on_features_is_the_plain_view():
    net, images = build(), tiny.batch()[0]
    assert torch.equal(seen(net, perturb=lambda feats: feats), seen(net))
    assert torch.equal(seen(net), net.encode_decode(images, metas_of(images)).detach())
    assert not torch.equal(seen(net, perturb=lambda feats: [0 * f for f in feats]), seen(net))


def test_perturbed_views_of_the_training_forward():
    net = build().eval()
    batch = Batch.of(*tiny.batch(2, 3))
    losses, (weak, kept, zeroed), _ = network.train_on(
        net, batch, [batch.weak],
        perturb=[lambda feats: feats, lambda feats: [0 * f for f in feats]])
    plain, (alone, ), _ = network.train_on(net, batch, [batch.weak])
    torch.testing.assert_close(kept.logits, weak.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weak.logits, alone.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses['decode.loss_ce'], plain['decode.loss_ce'])
    assert zeroed.logits.shape == weak.logits.shape == (3, 3, 32, 32)
    torch.testing.assert_close(zeroed.logits[0], zeroed.logits[1])  # nothing of the image is left
    assert not torch.allclose(weak.logits[0], weak.logits[1])


@pytest.mark.parametrize('path', ['decode_head', 'decode_head.conv_seg'])
def test_perturbed_features_are_not_tapped(path):
    """What is made of the tapped features is of the labelled images and of the views alone."""
    net, batch = build().eval(), Batch.of(*tiny.batch(2, 3))
    tap = network.Tap(path, torch.nn.Identity())
    _, _, want = network.train_on(net, batch, [batch.weak], tap=tap)
    _, _, found = network.train_on(net, batch, [batch.weak], tap=tap,
                                   perturb=[lambda feats: [0 * f for f in feats]])
    assert len(want) == 5 and want.abs().sum() > 0
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('joint', [True, False])
def test_the_labelled_view(joint):
    """It comes first; apart, by a forward that leaves the statistics alone."""
    net, other = build(), build()
    batch = Batch.of(*tiny.batch(2, 3))
    losses, views, _ = network.train_on(net, batch, [batch.weak], joint=joint, labeled=True)
    want, _, _ = network.train_on(other, batch, [batch.weak], joint=joint)
    assert [len(view.logits) for view in views] == [2, 3]
    torch.testing.assert_close(losses['decode.loss_ce'], want['decode.loss_ce'])
    assert same(statistics(net), statistics(other))
    labels = batch.labels[:2]
    ce = torch.nn.functional.cross_entropy(views[0].logits, labels, ignore_index=255,
                                           reduction='sum') / labels.numel()
    torch.testing.assert_close(losses['decode.loss_ce'], ce)  # of these very logits


def test_no_seam():
    cascade = build(tiny.cascade())
    with pytest.raises(TypeError, match='CascadeEncoderDecoder with OCRHead'):
        seen(cascade, perturb=lambda feats: feats)
    batch = Batch.of(*tiny.batch())
    for net, joint in ((cascade, True), (build(), False)):
        with pytest.raises(TypeError, match='joint_forward'):
            network.train_on(net.train(), batch, [batch.weak], joint=joint,
                             perturb=[lambda feats: feats])


def test_logits_of_the_last_images_only():
    net = build()
    torch.testing.assert_close(seen(net, num_logits=1), seen(net)[-1:])
    view = network.see(net, tiny.batch()[0], encoder=True, num_logits=2)
    assert view.logits.shape[0] == 2 and view.encoder.shape == (4, 64, 4, 4)
    assert view.embedding is None
    assert network.see(net, tiny.batch()[0]).encoder is None  # for nobody asked


@MODELS.register_module()
class StagedHead(FCNHead):
    """Gives the logits of two stages, as KNet's head does; the last ones are meant."""

    def forward(self, inputs):
        logits = super().forward(inputs)
        return [0 * logits, logits]


def test_of_several_stages_the_last_is_seen():
    plain, staged = (build(tiny.segmentor(decode_head=dict(tiny.fcn(), type=kind)))
                     for kind in ('FCNHead', 'StagedHead'))
    assert torch.equal(seen(staged), seen(plain))


def test_auxiliary_heads_learn_if_asked():
    net, batch = build(tiny.segmentor(auxiliary=True)), Batch.of(*tiny.batch(2, 0))
    for joint in (True, False):
        for keys in ({}, dict(auxiliary=True)):
            losses, _, _ = network.train_on(net, batch, [], joint=joint, **keys)
            assert ('aux.loss_ce' in losses) == bool(keys)


@pytest.mark.parametrize('joint', [True, False])
def test_a_view_of_no_image_is_empty(joint):
    batch = Batch.of(*tiny.batch(2, 0))
    _, (view, ), _ = network.train_on(build(), batch, [batch.weak], joint=joint)
    assert len(view.logits) == 0


def test_what_cannot_be_wrapped():
    seg = tiny.segmentor()
    seg['decode_head'].update(num_classes=2, out_channels=1, threshold=0.3)
    with pytest.raises(ValueError, match='num_classes=2 and out_channels=1.*use_sigmoid=False'):
        build(seg)
