"""tools/cost.py counts what a layer-by-layer count gives."""
import cost
import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn


def config(variant='dsl+ctr', kind='num', **changes):
    counts = {f'{kind}_labeled': 2, f'{kind}_unlabeled': 3}
    return Config(dict(
        model=tiny.esl_cfg(variant),
        train_dataloader=dict(batch_size=5, batch_sampler=dict(type='SemiBatchSampler', **counts)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1)), train_cfg=dict(max_iters=10),
        **changes))


@pytest.mark.parametrize('variant', ['dsl+ctr', 'sup'])
def test_flops_against_every_convolution(variant):
    cfg, total = config(variant), 0

    def add(conv, _, out):
        nonlocal total
        one = conv.in_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
        total += 2 * out.numel() * one

    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).eval()
    for net in (model.student, model.projector):
        for module in net.modules() if net is not None else ():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(add)
    with torch.no_grad():
        model._whole_view(model.student, model.projector, torch.zeros(1, 3, 32, 32), encoder=False)
    assert cost.forward_flops(cfg) == total > 0


@pytest.mark.parametrize('variant, forwards', [
    ('dsl+ctr', 3 * 5 + 5), ('dsl', 3 * 5 + 3), ('sup', 3 * 2)])
def test_forwards(variant, forwards):
    assert cost.forwards_per_step(config(variant)) == forwards
    assert cost.forwards_per_step(config(variant, 'total')) == forwards


def test_row(tmp_path):
    path = tmp_path / 'some.py'
    path.write_text(config().pretty_text)
    cells = dict(zip(cost.HEAD, cost.row(str(path), tflops=1e-9, gpus=1)))
    step = cost.forward_flops(config()) * 20
    assert cells['config'] == 'some.py' and cells['iterations'] == 10
    assert cells['GPU hours'] == round(step * 10 / 1e3 / 3600) > 0
