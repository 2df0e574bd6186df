"""CPS against a second implementation; two trained networks in optimiser, files and resuming."""
from __future__ import annotations

import cps_ranks
import every
import forked
import pytest
import straight
import tiny
import torch
from mmengine.optim import build_optim_wrapper


def test_against_a_straight_line():
    model = tiny.method('CPS', cps_weight=0.7).double()
    one, two = (straight.Net(getattr(model, name)) for name in ('student', 'student2'))

    def reference(number, images, labels, views):
        assert views == []
        logits, losses = {}, {}
        for name, net in (('', one), ('student2.', two)):
            labeled, weak = net(images[:2]), net(images[2:])  # statistics of their own
            losses[f'{name}decode.loss_ce'] = straight.supervised(labeled, labels[:2])
            logits[name] = torch.cat([labeled, weak])
        total, valid = 0, labels != 255
        for mine, other in (('', 'student2.'), ('student2.', '')):
            classes, _ = straight.best(logits[other])
            total = total + straight.entropies(logits[mine], classes)[valid].mean()
        losses['loss_cps'] = 0.7 * total
        return straight.stepped(losses, one, two)

    straight.compare(model, reference, {'student': one, 'student2': two})


def test_the_networks_start_apart():
    model = tiny.method('CPS')
    one, two = (every.part(model, name) for name in model.roles)
    assert {'backbone.stem.0.weight', 'decode_head.conv_seg.weight'} <= set(
        every.differing(one, two))


def test_equal_networks_train_themselves():
    model = tiny.method('CPS').double()
    model.student2.load_state_dict(model.student.state_dict())
    model.eval()
    inputs, samples = tiny.batch(ignored=0)
    logits = straight.Net(model.student)(inputs.double())
    own = straight.entropies(logits, straight.best(logits)[0]).mean()
    losses = model.loss(inputs.double(), samples)
    assert float(losses['loss_cps'].detach()) == pytest.approx(1.5 * 2 * float(own), rel=1e-12)
    assert losses['decode.loss_ce'] == losses['student2.decode.loss_ce']


def test_a_term_teaches_one_network():
    """However much one network's logits change what the other learns, no gradient goes there."""
    model = tiny.method('CPS').double().eval()
    inputs, samples = tiny.batch()
    losses = model.loss(inputs.double(), samples)
    got = torch.autograd.grad(losses['loss_cps'], list(model.student.parameters()),
                              retain_graph=True)
    classes, _ = straight.best(straight.Net(model.student2)(inputs.double()))
    valid = torch.stack([s.gt_sem_seg.data[0] for s in samples]) != 255
    own = straight.Net(model.student)
    mine = straight.entropies(own(inputs.double()), classes)[valid].mean() * 1.5
    want = torch.autograd.grad(mine, list(own.net.parameters()))
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert any(g.any() for g in got)


def test_the_optimiser_holds_both():
    model = tiny.method('CPS')
    rates = dict(custom_keys=dict(decode_head=dict(lr_mult=10)))
    groups = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='StudentOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=rates)).optimizer.param_groups
    found = {id(p): group['lr'] for group in groups for p in group['params']}
    assert found == {id(p): 1.0 if 'decode_head' in name else 0.1
                     for net in (model.student, model.student2)
                     for name, p in net.named_parameters()}
    group, = build_optim_wrapper(tiny.method('FixMatch'), dict(
        type='OptimWrapper', constructor='StudentOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.1))).optimizer.param_groups
    assert len(group['params']) == len(found) / 2


def test_both_train_under_a_runner(tmp_path):
    tiny.write_data(tmp_path / 'data')
    watch = tiny.Watch(lambda r: {name: every.part(r.model, name) for name in r.model.roles})
    wrapper = dict(constructor='StudentOptimWrapperConstructor')
    runner = tiny.run(tmp_path, tmp_path / 'data', [dict(type='StepHook'), watch], max_iters=2,
                      model=tiny.method_cfg('CPS'), wrapper=wrapper)
    for name in runner.model.named(trained=True):
        changed = every.differing(*(found[name] for found in watch.found))
        assert {'backbone.stem.0.weight', 'decode_head.conv_seg.weight'} <= set(changed)


def test_a_file_that_another_method_saved_is_refused():
    """It holds one trained network of two: the second cannot be made up."""
    model, other = tiny.method('CPS'), tiny.method('FixMatch', labels_by='teacher')
    with pytest.raises(ValueError, match="another method's.*no student2.*export_segmentor"):
        model.load_state_dict(other.state_dict(), strict=False)


@pytest.mark.parametrize('key, changed', [
    ('cps_weight', dict(cps_weight=2.0)), ('channels', dict(seg='wider'))])
def test_another_model_is_not_resumed(tmp_path, key, changed):
    tiny.write_data(tmp_path / 'data')
    hooks = [dict(type='StepHook'), dict(type='RunStateHook')]
    model = tiny.method_cfg('CPS')
    tiny.run(tmp_path / 'a', tmp_path / 'data', hooks, max_iters=1, save_every=1, model=model,
             cfg=dict(model=model))
    if changed.pop('seg', None):
        changed['seg'] = tiny.segmentor()
        changed['seg']['decode_head']['channels'] = 16
    model = tiny.method_cfg('CPS', **changed)
    with pytest.raises(RuntimeError, match=rf'not the run[\s\S]*{key}: '):
        tiny.run(tmp_path / 'b', tmp_path / 'data', hooks, max_iters=2, resume=True, model=model,
                 cfg=dict(model=model), load_from=str(tmp_path / 'a/work/iter_1.pth'))


def test_two_processes_are_one():
    """Gradients, and weights after two steps, of both networks, as of all images in one process."""
    found = forked.result(forked.on_ranks(cps_ranks.main))
    assert found['alike'] and found['moved'] > 0.01
    for name in ('student', 'student2'):
        weight = f'{name}.decode_head.conv_seg.weight'
        assert weight in found['names'] and f'grad {weight}' in found['names']
    assert max(found['off'].values()) < 1e-12, max(found['off'].items(), key=lambda x: x[1])
