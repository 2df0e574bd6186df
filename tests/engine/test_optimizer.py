"""StudentOptimWrapperConstructor: what is trained, at the rates asked for, and nothing else."""
import pytest
import tiny
import torch
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS


def cfg(**paramwise):
    return dict(type='OptimWrapper', constructor='StudentOptimWrapperConstructor',
                optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=paramwise or None)


def test_trains_student_and_projector_only(caplog):
    model = tiny.esl('dsl+ctr')
    rates = dict(decode_head=dict(lr_mult=10), projector=dict(lr_mult=5))
    groups = build_optim_wrapper(model, cfg(custom_keys=rates)).optimizer.param_groups
    found = {id(p): group['lr'] for group in groups for p in group['params']}
    expected = {}
    for name, p in [*model.student.named_parameters(),
                    *model.projector.named_parameters('projector')]:
        factor = 10 if 'decode_head' in name else 5 if 'projector' in name else 1
        expected[id(p)] = 0.1 * factor
    assert found == expected
    assert 'teacher' not in caplog.text and 'projector' not in model.student._modules


def test_without_paramwise_and_projector():
    model = tiny.esl('dsl')
    group, = build_optim_wrapper(model, cfg()).optimizer.param_groups
    assert {id(p) for p in group['params']} == {id(p) for p in model.student.parameters()}


def test_another_constructor_sees_a_plain_segmentor():

    class LooksAtTheBackbone(DefaultOptimWrapperConstructor):

        def __call__(self, model):
            names = [name for name, _ in model.named_parameters()]
            assert type(model.backbone).__name__ == 'ResNetV1c'
            assert any(name.startswith('backbone.') for name in names)
            assert any(name.startswith('projector.') for name in names)
            return super().__call__(model)

    with_name = OPTIM_WRAPPER_CONSTRUCTORS.register_module(
        name='LooksAtTheBackbone', force=True, module=LooksAtTheBackbone)
    assert with_name is LooksAtTheBackbone
    assert build_optim_wrapper(tiny.esl(), cfg(constructor='LooksAtTheBackbone'))


def test_two_segmentors_have_rates_by_their_names():
    model = tiny.method('CPS')
    rates = dict(student2=dict(lr_mult=5), decode_head=dict(lr_mult=3))
    groups = build_optim_wrapper(model, cfg(custom_keys=rates)).optimizer.param_groups
    found = {id(p): group['lr'] for group in groups for p in group['params']}
    wanted = {id(p): 0.3 if 'decode_head' in name else 0.1
              for name, p in model.student.named_parameters()}
    # of two keys that fit mmengine takes the longer one
    wanted.update((id(p), 0.3 if 'decode_head' in name else 0.5)
                  for name, p in model.student2.named_parameters())
    assert found == {key: pytest.approx(rate) for key, rate in wanted.items()}


def test_each_of_two_segmentors_is_seen_by_itself():
    seen = []

    @OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
    class LooksAtSegmentors(DefaultOptimWrapperConstructor):

        def __call__(self, model):
            seen.append({id(p) for p in model.backbone.parameters()})
            return super().__call__(model)

    model = tiny.method('CPS')
    groups = build_optim_wrapper(model, cfg(constructor='LooksAtSegmentors')).optimizer.param_groups
    assert seen == [{id(p) for p in net.backbone.parameters()}
                    for net in (model.student, model.student2)]
    assert {id(p) for group in groups for p in group['params']} == {
        id(p) for net in (model.student, model.student2) for p in net.parameters()}


# ------------------------------------------------------------- what training may be sped up with

GUARDED = [tiny.EMA, tiny.PARTS, dict(type='FiniteGuardHook')]


def run(tmp_path, name, **kwargs):
    if not (tmp_path / 'data').exists():
        tiny.write_data(tmp_path / 'data')
    return tiny.run(tmp_path / name, tmp_path / 'data', GUARDED, **kwargs)


def test_a_fused_optimizer_calls_the_hooks(tmp_path):
    """Teacher and guard live by hooks of the optimiser: the same run gives the same numbers."""
    wrappers = [dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3, **kind))
                for kind in (dict(fused=True), dict(foreach=True), dict(foreach=False))]
    runs = [run(tmp_path, str(i), wrapper=w, max_iters=3) for i, w in enumerate(wrappers)]
    assert runs[0].optim_wrapper.optimizer.defaults['fused'] is True
    *fast, wanted = (made.model.state_dict() for made in runs)
    assert wanted['ema_steps'] == 3
    for found in fast:
        for key in wanted:
            torch.testing.assert_close(found[key], wanted[key], rtol=1e-4, atol=1e-5, msg=key)


def test_a_fused_optimizer_obeys_the_guard(tmp_path):
    made = run(tmp_path, 'a', wrapper=dict(optimizer=dict(type='SGD', lr=0.05, fused=True)))
    model, optimizer = made.model, made.optim_wrapper.optimizer
    before = {key: value.clone() for key, value in model.state_dict().items()}
    hooks = [hook for hook in made.hooks if type(hook).__name__ in ('FiniteGuardHook',
                                                                    'TeacherEMAHook')]
    for hook in hooks:
        hook.before_train(made)
        hook.before_train_iter(made, 0)
    for p in model.student.parameters():
        p.grad = torch.full_like(p, torch.nan)
    optimizer.step()
    assert model.step_refused
    after = model.state_dict()
    assert not [key for key in before if not torch.equal(before[key], after[key])]


def test_bfloat16_without_a_loss_scale(tmp_path, monkeypatch):
    """What ``--amp bf16`` sets, with the CPU's autocast: trains, saves, resumes."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False),
                   clip_grad=dict(max_norm=35))
    first = run(tmp_path, 'a', wrapper=wrapper, save_every=2)
    assert not first.optim_wrapper.loss_scaler.is_enabled() and first.model.ema_steps == 2
    path = tmp_path / 'a/work/iter_2.pth'
    assert torch.load(path, weights_only=False)['optimizer']['loss_scaler'] == {}

    seen = []
    monkeypatch.setattr(torch.nn.Conv2d, 'forward', recorded(torch.nn.Conv2d.forward, seen))
    second = run(tmp_path, 'b', wrapper=wrapper, max_iters=3, load_from=str(path), resume=True)
    assert second.model.ema_steps == 3
    assert set(seen) == {torch.bfloat16}  # it was autocast that ran
    assert all(p.isfinite().all() for p in second.model.parameters())
    assert second.model.part_memory.queue.dtype == torch.float32


def recorded(forward, seen):
    def listen(self, x):
        out = forward(self, x)
        if torch.is_grad_enabled():  # the student; a new model is probed, in float32, without
            seen.append(out.dtype)
        return out
    return listen
