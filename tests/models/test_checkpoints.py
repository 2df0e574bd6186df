"""Plain checkpoints in, wrapper checkpoints back, and mmseg's own inference."""
import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import load_checkpoint, save_checkpoint
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS


def plain(seed=5, **changes):
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(tiny.segmentor(**changes)))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    for name, b in model.named_buffers():
        if 'running' in name:
            torch.nn.init.uniform_(b, 0.5, 1.5)
    return model


def save(model, path):
    save_checkpoint(dict(state_dict=model.state_dict(), meta=dict(
        dataset_meta=dict(classes=tiny.CLASSES, palette=tiny.PALETTE))), str(path))
    return str(path)


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_student_keys_are_the_plain_keys():
    model, seg = tiny.esl(), plain()
    for network in ('student', 'teacher'):
        keys = [k[len(network) + 1:] for k in model.state_dict() if k.startswith(f'{network}.')]
        assert keys == list(seg.state_dict())
    rest = {k.split('.')[0] for k in model.state_dict()}
    assert rest == {'student', 'teacher', 'projector', 'teacher_projector', 'part_memory',
                    'ema_steps'}


@pytest.mark.parametrize('variant', ['dsl+ctr', 'sup'])
def test_plain_checkpoint_fills_both_networks(tmp_path, variant):
    model, seg = tiny.esl(variant), plain()
    projector = {k: v.clone() for k, v in model.state_dict().items() if 'projector' in k}
    load_checkpoint(model, save(seg, tmp_path / 'plain.pth'))
    assert_equal(model.student.state_dict(), seg.state_dict())
    assert_equal(model.teacher.state_dict(), seg.state_dict())
    for key, value in projector.items():
        assert torch.equal(model.state_dict()[key], value)


def test_networks_load_strictly_into_the_plain_segmentor():
    model, seg = tiny.esl(), plain()
    seg.load_state_dict(model.teacher.state_dict(), strict=True)
    inputs, _ = tiny.batch()
    seg.eval()
    torch.testing.assert_close(seg(inputs), model.eval()(inputs))


@pytest.mark.parametrize('how', ['file', 'torch'])
def test_another_architecture_is_refused(tmp_path, how):
    backbone = dict(tiny.segmentor()['backbone'], depth=34)
    seg, model = plain(backbone=backbone), tiny.esl()
    wide = plain(backbone=dict(tiny.segmentor()['backbone'], stem_channels=16))
    with pytest.raises(ValueError, match='another architecture.*backbone.stem'):
        if how == 'file':
            load_checkpoint(model, save(wide, tmp_path / 'wide.pth'))
        else:
            model.load_state_dict(wide.state_dict(), strict=False)
    small = tiny.esl(segmentor=tiny.segmentor(backbone=backbone))
    with pytest.raises(ValueError, match='another architecture.*missing'):
        small.load_state_dict(model.state_dict(), strict=False)
    assert len(seg.state_dict()) > len(model.student.state_dict())


def test_round_trip(tmp_path):
    model = tiny.esl(sharp=1.0)
    for seed in (0, 1):
        tiny.total(model.loss(*tiny.batch(seed=seed))).backward()
        with torch.no_grad():
            model.student.decode_head.conv_seg.weight.add_(0.1)
        model.after_optimizer_step(seed)
    path = save(model, tmp_path / 'esl.pth')
    other = tiny.esl(start=False)
    other.part_memory.active = True
    load_checkpoint(other, path, strict=True)
    assert_equal(model.state_dict(), other.state_dict())
    assert other.ema_steps == 2 and other.part_memory.initialised
    assert other.part_memory.pushed.any()
    found = []
    for each in (model, other):
        torch.manual_seed(0)
        found.append(each.loss(*tiny.batch(seed=2)))
    for key in found[0]:
        assert torch.equal(found[0][key], found[1][key]), key


@pytest.mark.parametrize('which', ['teacher', 'student'])
def test_prediction_is_that_networks(which):
    model = tiny.esl(test_cfg=dict(predict_on=which)).eval()
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(0.1 * torch.randn_like(p))
    inputs, samples = tiny.batch(1, 0)
    plain_net = plain()
    plain_net.load_state_dict(getattr(model, which).state_dict())
    other = model.student if which == 'teacher' else model.teacher
    want = plain_net.eval()(inputs, [samples[0].clone()], mode='predict')[0].seg_logits.data
    got = model(inputs, [samples[0].clone()], mode='predict')[0].seg_logits.data
    assert torch.equal(got, want)
    assert not torch.equal(got, other(inputs, [samples[0].clone()],
                                      mode='predict')[0].seg_logits.data)


def test_mmseg_inference_api(tmp_path):
    model = tiny.esl(sharp=1.0)
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(0.1 * torch.randn_like(p))
    path = save(model, tmp_path / 'esl.pth')
    cfg = Config(dict(
        model=tiny.esl_cfg(), default_scope='mmseg', test_pipeline=[
            dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]))
    cfg.dump(tmp_path / 'config.py')
    loaded = init_model(str(tmp_path / 'config.py'), path, device='cpu')
    assert loaded.dataset_meta['classes'] == tiny.CLASSES
    image = np.random.RandomState(0).randint(0, 255, (40, 48, 3), dtype=np.uint8)
    got = inference_model(loaded, image).pred_sem_seg.data
    assert got.shape == (1, 40, 48)
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    want = model.eval().teacher((rgb - 127.5) / 127.5)  # low-resolution logits
    want = torch.nn.functional.interpolate(want, size=(40, 48), mode='bilinear').argmax(1)
    assert torch.equal(got, want)
