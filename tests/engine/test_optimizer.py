"""StudentOptimWrapperConstructor: what is trained, at the rates asked for, and nothing else."""
import tiny
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
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
