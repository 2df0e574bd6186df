"""Stock mmseg models, shrunk, take ESL steps."""
import pytest
import tiny
import torch
from mmengine.config import Config

BASE = 'mmseg::_base_/models/'
RESNET = dict(depth=18, stem_channels=8, base_channels=8)


def stock(name, backbone, head, **changes):
    model = Config.fromfile(Config._get_cfg_path(BASE + name, '')[0]).model.to_dict()
    model['pretrained'] = None
    model['backbone'].update(backbone)
    model['backbone'].pop('init_cfg', None)
    heads = model['decode_head'] if isinstance(model['decode_head'], list) else [
        model['decode_head']]
    for each in heads:
        each.update(num_classes=3, channels=8)
    heads[-1].update(head)
    model.update(auxiliary_head=None, test_cfg=dict(mode='whole'))
    model.update(changes)
    return model


def pspnet():
    return stock('pspnet_r50-d8.py', RESNET, dict(in_channels=64, pool_scales=(1, 2)))


def upernet_swin():
    return stock('upernet_swin.py',
                 dict(embed_dims=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4),
                 dict(in_channels=[8, 16, 32, 64]))


def segformer():
    return stock('segformer_mit-b0.py',
                 dict(embed_dims=8, num_layers=[1] * 4, num_heads=[1, 1, 2, 2]),
                 dict(in_channels=[8, 8, 16, 16]))


def upernet_convnext():
    try:
        import mmpretrain.models  # noqa: F401
    except Exception as error:  # it does not import without torchvision, say
        pytest.skip(f'mmpretrain.models cannot be imported: {error}')
    return stock('upernet_convnext.py',
                 dict(arch=dict(depths=[1] * 4, channels=[8, 16, 24, 32])),
                 dict(in_channels=[8, 16, 24, 32]))


def encnet():
    """Its head returns a second output beside the logits."""
    return stock('encnet_r50-d8.py', RESNET, dict(in_channels=[16, 32, 64], num_codes=4))


def unet():
    return stock('fcn_unet_s5-d16.py', dict(base_channels=4), dict(in_channels=4))


def ocrnet():
    model = stock('ocrnet_r50-d8.py', RESNET, dict(in_channels=64, ocr_channels=4))
    model['decode_head'][0].update(in_channels=32)
    return model


MODELS = dict(pspnet=pspnet, upernet_swin=upernet_swin, segformer=segformer,
              upernet_convnext=upernet_convnext, encnet=encnet, unet=unet, ocrnet=ocrnet)


@pytest.mark.parametrize('name', MODELS)
def test_step(name):
    model = tiny.esl(segmentor=MODELS[name](), confidence=0.5)
    step = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
    for seed in (0, 1):
        losses = model.loss(*tiny.batch(size=64, seed=seed))
        for key, value in losses.items():
            assert torch.isfinite(value).all(), key
        step.zero_grad()
        tiny.total(losses).backward()
        step.step()
        model.after_optimizer_step(seed)
    assert losses['loss_ctr'] > 0 and losses['loss_sce'] > 0
    assert [n for n, p in model.student.named_parameters() if p.requires_grad and p.grad is None] \
        == []
    found = model.eval()(torch.randn(1, 3, 64, 64), None, mode='predict')
    assert found[0].pred_sem_seg.data.shape == (1, 64, 64)
