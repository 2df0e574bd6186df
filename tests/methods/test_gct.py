"""GCT against a second implementation: three phases, each with its own backward pass and step."""
from __future__ import annotations

import copy
import math
from pathlib import Path

import every
import pytest
import straight
import tiny
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmseg_esl.engine.optimizer import SeveralOptimizers

ROOT = Path(__file__).parents[2]


class Detector(straight.Net):
    """A copy of the flaw detector; ``again`` leaves running statistics alone."""

    def __call__(self, images, probs, inside):
        x = torch.cat([images, probs], dim=1) * inside[:, None]
        x = F.interpolate(x, (128, 128), mode='bilinear', align_corners=True)
        x = F.interpolate(self.net.layers(x), (32, 32), mode='bilinear', align_corners=True)
        return x[:, 0]

    def again(self, *args):
        buffers = copy.deepcopy(dict(self.net.named_buffers()))
        out = self(*args)
        for name, buffer in self.net.named_buffers():
            buffer.data = buffers[name]
        return out


def blur(maps, size):
    """By the kernel in two dimensions."""
    offset = torch.arange(size, dtype=maps.dtype) - size // 2
    sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    kernel = torch.exp(-(offset[:, None] ** 2 + offset ** 2) / (2 * sigma ** 2))
    padded = F.pad(maps[:, None], (size // 2,) * 4, mode='reflect')
    return F.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0]


def spread(maps, inside, least):
    out = torch.zeros_like(maps)
    for i, keep in enumerate(inside):
        values = maps[i][keep]
        if len(values) and values.max() > least:
            out[i][keep] = (values - values.min()) / (values.max() - values.min() + 1e-9)
    return out


def handled(flaws, inside):
    return spread(blur(flaws.clamp(min=0) * inside, 3), inside, 0.1)


def wanted(probs, labels):
    known = labels != 255
    truth = F.one_hot(torch.where(known, labels, 0), 3).permute(0, 3, 1, 2)
    flaws = blur((truth - probs).abs().sum(dim=1) / 2 * known, 5)
    flaws = F.max_pool2d(F.pad(flaws[:, None], (1,) * 4, mode='reflect'), 3, 1)[:, 0]
    return spread(blur(flaws, 9), known, 0)


def test_against_a_straight_line():
    keys = dict(dc_weight=8.0, fc_weight=0.3, fd_weight=2.0, flaw_threshold=0.4, dc_ramp_iters=4)
    model = tiny.method('GCT', sharp=1.0, **keys).double()
    model.student2.decode_head.conv_seg.weight.data.normal_(0, 1)  # tiny made them alike
    model.flaw_detector.layers[-1].weight.data *= 10  # maps that vary
    nets = [straight.Net(model.student), straight.Net(model.student2)]
    detector, shares = Detector(model.flaw_detector), []

    def reference(number, images, labels, views):
        inside, known = labels != 255, labels[:2] != 255
        count, losses = inside.sum(), {}
        outs = [net(images) for net in nets]
        probs = [out.softmax(dim=1) for out in outs]
        flaws = [detector(images, p.detach(), inside) for p in probs]
        one, two = (handled(f.detach(), inside) for f in flaws)
        both = (one > 0.4) & (two > 0.4)
        one, two = (torch.where(f > 0.4, 1.0, f) for f in (one, two))
        own = [two >= one, one >= two]
        fixed = [p.detach() for p in probs]
        rise = math.exp(-5 * (1 - number / 4) ** 2)
        dc = fc = fd = 0.0
        for i in (0, 1):
            other = torch.where(own[i][:, None], fixed[i], fixed[1 - i])
            loss_ce = straight.supervised(outs[i][:2], labels[:2])
            consistency = ((probs[i] - other) ** 2).mean(dim=1)
            loss_dc = rise * 8.0 * consistency[inside].sum() / count
            phi = detector.again(images, probs[i], inside)
            loss_fc = 0.3 * (phi ** 2)[inside & both].sum() / count
            grads = torch.autograd.grad(loss_ce + loss_dc + loss_fc,
                                        list(nets[i].net.parameters()))
            for p, grad in zip(nets[i].net.parameters(), grads):
                p.grad = grad
            losses['student2.decode.loss_ce' if i else 'decode.loss_ce'] = float(loss_ce.detach())
            dc, fc = dc + float(loss_dc.detach()), fc + float(loss_fc.detach())
            error = (flaws[i][:2] - wanted(fixed[i][:2], labels[:2]))[known]
            fd = fd + 2.0 / 2 * (error ** 2).sum() / known.sum()
        fd.backward()
        for net in (*nets, detector):
            net.step()
        shares.append([float(x[inside].double().mean()) for x in (~own[0], ~own[1], both)])
        return {**losses, 'loss_dc': dc, 'loss_fc': fc, 'loss_fd': float(fd.detach())}

    straight.compare(model, reference, {
        'student': nets[0], 'student2': nets[1], 'flaw_detector': detector})
    assert all(0.02 < share < 0.98 for row in shares for share in row)


def model_and_losses(**keys):
    model = tiny.method('GCT', **keys).double()
    inputs, samples = tiny.batch()
    return model, model.loss(inputs.double(), samples)


def reached(loss, net):
    grads = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True, allow_unused=True)
    return [g is not None and bool(g.any()) for g in grads]


def test_which_term_reaches_whom():
    model, losses = model_and_losses(dc_weight=0.0)  # so that flaws are corrected everywhere
    for name in ('student', 'student2'):
        net = getattr(model, name)
        found = reached(losses['loss_fc'], net)  # whatever the labels reach
        assert found == reached(losses['decode.loss_ce' if name == 'student' else
                                       f'{name}.decode.loss_ce'], net) and sum(found) > 50
        assert not any(reached(losses['loss_fd'], net))
    detector = model.flaw_detector
    assert not any(reached(losses['loss_fc'], detector))
    assert not any(reached(losses['loss_dc'], detector))
    assert sum(reached(losses['loss_fd'], detector)) > 10
    assert all(p.requires_grad for p in detector.parameters())


def test_the_detector_gathers_statistics_once_a_prediction():
    model, _ = model_and_losses()
    counts = [b for n, b in model.flaw_detector.named_buffers() if n.endswith('batches_tracked')]
    assert counts and all(count == 2 for count in counts)


def test_equal_networks_have_nothing_to_exchange():
    model = tiny.method('GCT', sharp=1.0)
    model.student2.load_state_dict(model.student.state_dict())
    losses = model.loss(*tiny.batch())
    assert losses['loss_dc'] == 0
    assert losses['decode.loss_ce'] == losses['student2.decode.loss_ce']


def test_the_consistency_goes_one_way(monkeypatch):
    """Its target is detached: where the first network learns, the second gets no gradient."""
    model = tiny.method('GCT', sharp=1.0).double()
    maps = iter([torch.ones(4, 32, 32), torch.zeros(4, 32, 32)])
    monkeypatch.setattr('mmseg_esl.methods.gct.handle_flaws', lambda *args: next(maps))
    inputs, samples = tiny.batch()
    loss = model.loss(inputs.double(), samples)['loss_dc']
    assert any(reached(loss, model.student)) and not any(reached(loss, model.student2))


def test_pixels_without_a_label_teach_the_detector_nothing():
    """An object's border: seen, but neither its flaw nor its target counts."""
    model = tiny.method('GCT', sharp=1.0).double().eval()
    inputs, samples = tiny.batch(ignored=0)
    samples[0].gt_sem_seg.data[0, 10:14, 10:20] = 255
    found, extra = [], torch.zeros(4, 32, 32, dtype=torch.float64)
    detect = model.flaw_detector.forward
    model.flaw_detector.forward = lambda *args: detect(*args) + extra
    for noise in (0.0, 5.0):
        extra[0, 10:14, 10:20] = noise
        found.append(model.loss(inputs.double(), samples)['loss_fd'].detach().clone())
    assert found[0] == found[1] and found[0] > 0


@pytest.mark.parametrize('done, factor', [(0, 0.0067379), (2, math.exp(-1.25)), (4, 1), (9, 1)])
def test_the_consistency_rises_by_a_sigmoid(done, factor):
    model = tiny.method('GCT', dc_ramp_iters=4, warmup_iters=3)
    model.iter = 3 + done
    assert model.dc_ramp() == pytest.approx(factor, rel=1e-5)
    model.iter = 2
    assert model.dc_ramp() == 0


def test_the_consistency_s_ramp_within_that_of_all_terms():
    model = tiny.method('GCT', dc_ramp_iters=4, ramp_iters=10)
    model.iter = 1
    assert model.dc_ramp() == pytest.approx(0.2 * math.exp(-5 * 0.75 ** 2))
    model.cfg.dc_ramp_iters = 0  # none of its own
    assert model.dc_ramp() == pytest.approx(0.2)


def test_its_own_optimiser_under_a_runner(tmp_path):
    """Adam's first step moves each weight of the detector, and of nothing else, by its rate."""
    tiny.write_data(tmp_path / 'data')
    rate, parts = 1e-3, ('student', 'student2', 'flaw_detector')
    wrapper = dict(constructor='StudentOptimWrapperConstructor', networks=dict(flaw_detector=dict(
        optimizer=dict(type='Adam', lr=rate, betas=(0.9, 0.99)))))
    start = tiny.Watch(None)
    start.before_train_iter = lambda runner, **kwargs: start.found.append(
        {name: every.part(runner.model, name) for name in parts})
    start.after_train_iter = lambda runner, **kwargs: None
    runner = tiny.run(tmp_path, tmp_path / 'data', [dict(type='StepHook'), start], max_iters=1,
                      model=tiny.method_cfg('GCT'), wrapper=wrapper)
    optimizer = runner.optim_wrapper.optimizer
    assert isinstance(optimizer, SeveralOptimizers)
    assert list(optimizer.optimizers) == ['main', 'flaw_detector']
    adam, moved = optimizer.optimizers['flaw_detector'].state, 0
    for name, p in runner.model.flaw_detector.named_parameters():
        step, grad = p.detach() - start.found[0]['flaw_detector'][name], adam[p]['exp_avg'] * 10
        large = grad.abs() > 1e-5
        moved += int(large.sum())
        torch.testing.assert_close(step[large], -rate * grad[large].sign(), rtol=2e-2, atol=0)
    assert moved > 100 and len(adam) == len(list(runner.model.flaw_detector.parameters()))
    for name in parts[:2]:
        key = 'decode_head.conv_seg.weight'
        step = getattr(runner.model, name).state_dict()[key] - start.found[0][name][key]
        assert step.any() and (step.abs() - rate).abs().min() > 1e-8


def test_its_configs_give_the_detector_an_optimiser():
    cfg = Config.fromfile(str(ROOT / 'configs/gct/gct_r50_voc-blender_1-8.py'))
    optimizer = build_optim_wrapper(tiny.method('GCT'), cfg.optim_wrapper).optimizer.optimizers
    main, adam = optimizer['main'], optimizer['flaw_detector']
    assert isinstance(main, torch.optim.SGD) and isinstance(adam, torch.optim.Adam)
    assert {group['lr'] for group in main.param_groups} == {2.5e-3}
    assert {(g['lr'], g['betas']) for g in adam.param_groups} == {(1e-4, (0.9, 0.99))}


@pytest.mark.parametrize('cell, iters', [
    ('voc-classic_1-16', 3933), ('voc-blender_1-2', 1984), ('cityscapes_1-8', 976)])
def test_its_configs_ramp_over_three_epochs(cell, iters):
    cfg = Config.fromfile(str(ROOT / f'configs/gct/gct_r50_{cell}.py'))
    assert cfg.model.semi_train_cfg.dc_ramp_iters == iters
