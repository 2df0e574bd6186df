"""Backbones of timm and of transformers from local files, by the lines of docs/configs.md."""
import json
import re
import socket

import pytest
import tiny
import torch
from config_files import ALL, composed
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_esl.models.segmentors import metas_of
from mmseg_esl.storage.config import offline

SWIN = dict(model_type='swin', image_size=64, embed_dim=8, depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2], window_size=2)


@pytest.fixture
def timm():
    return pytest.importorskip('timm', reason='the backbone is of timm: pip install timm')


@pytest.fixture
def transformers(monkeypatch):
    found = pytest.importorskip('transformers', reason='pip install transformers')

    def connect(*_):
        raise AssertionError('it asks a server')
    monkeypatch.setattr(socket.socket, 'connect', connect)
    monkeypatch.setattr(socket, 'getaddrinfo', connect)
    return found


def page_lines(kind, **names) -> dict:
    """The page's backbone, with other values for some strings in it."""
    page = (ALL.parent / 'docs/configs.md').read_text(encoding='utf-8')
    text, = re.findall(rf"```python\n(backbone = dict\(\n    type='{kind}'.*?)```", page, re.S)
    for old, new in names.items():
        assert old in text
        text = text.replace(old, str(new))
    return Config.fromstring(text, '.py').backbone


def method(backbone, width):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    seg = tiny.segmentor(backbone=backbone, decode_head=tiny.fcn(in_channels=width, in_index=3))
    with tiny.quiet():
        model = MODELS.build(ConfigDict(tiny.method_cfg('MeanTeacher', seg=seg)))
        model.init_weights()
    model.driven = True
    return model.train()


def trains_from(model, weights, inside) -> None:
    """Both networks begin with the file's numbers, and gradients reach the student's."""
    for network in (model.student, model.teacher):
        found = getattr(network.backbone, inside).state_dict()
        assert len(found) == len(weights)
        assert all(torch.equal(found[key], value) for key, value in weights.items())
    tiny.total(model(*tiny.batch(size=64), mode='loss')).backward()
    grads = [p.grad for p in model.student.backbone.parameters()]
    assert sum(grad is not None and bool(grad.any()) for grad in grads) > len(grads) / 2


@pytest.mark.parametrize('suffix', ['safetensors', 'pth'])
def test_timms_own_file(timm, tmp_path, suffix):
    torch.manual_seed(3)
    theirs = timm.create_model('test_convnext')
    weights, file = theirs.state_dict(), tmp_path / f'file.{suffix}'
    if suffix == 'pth':
        torch.save(weights, file)
    else:
        from safetensors.torch import save_file
        save_file(weights, file)
    cfg = page_lines('TIMMBackbone', **{'pretrain/convnext_tiny.safetensors': file,
                                        'convnext_tiny': 'test_convnext'})
    model = method(cfg, 64)
    # timm's maps are named stages_0 for stages.0, and have no classifier
    wanted = {re.sub(r'^stages\.', 'stages_', re.sub(r'^stem\.', 'stem_', key)): value
              for key, value in weights.items() if not key.startswith('head.')}
    trains_from(model, wanted, 'timm_model')
    images = tiny.batch(size=64)[0]
    maps = model.student.backbone.eval()(images)
    for found, level in zip(maps, theirs.eval().forward_intermediates(
            images, intermediates_only=True, indices=[0, 1, 2, 3])):
        torch.testing.assert_close(found, level)
    # a trained network is built without the file
    file.unlink()
    again = MODELS.build(offline(cfg))
    again.load_state_dict(model.student.backbone.state_dict())


def test_another_models_file_of_timm(timm, tmp_path):
    torch.save(timm.create_model('test_convnext2').state_dict(), tmp_path / 'other.pth')
    init_default_scope('mmseg')
    with pytest.raises(RuntimeError, match='(?s)Error.s. in loading.*stem.0'):
        MODELS.build(page_lines('TIMMBackbone', **{
            'pretrain/convnext_tiny.safetensors': tmp_path / 'other.pth',
            'convnext_tiny': 'test_convnext'}))


@pytest.fixture
def swin(transformers, tmp_path):
    """A folder that transformers wrote, and the network."""
    torch.manual_seed(3)
    config = transformers.SwinConfig(**SWIN, out_indices=[1, 2, 3, 4])
    net = transformers.AutoBackbone.from_config(config).eval()
    net.save_pretrained(tmp_path / 'swin')
    return tmp_path / 'swin', net


def test_a_folder_of_transformers(swin):
    folder, theirs = swin
    cfg = page_lines('HFBackbone', **{'pretrain/swin-tiny': folder})
    model = method(cfg, 64)
    trains_from(model, theirs.state_dict(), 'net')
    backbone, images = model.student.backbone.eval(), tiny.batch(size=64)[0]
    assert backbone.net.channels == [8, 16, 32, 64] == [x.shape[1] for x in backbone(images)]
    for found, level in zip(backbone(images), theirs(images).feature_maps):
        torch.testing.assert_close(found, level)
    # a trained network is built without the weights, and without the folder from a dict
    (folder / 'model.safetensors').unlink()
    for config in (str(folder), SWIN):
        again = MODELS.build(offline(dict(cfg, config=config)))
        again.load_state_dict(backbone.state_dict())


def test_a_classifiers_folder(transformers, tmp_path):
    """As they are published: without norms of the maps, with a classifier."""
    theirs = transformers.SwinForImageClassification(transformers.SwinConfig(**SWIN))
    theirs.save_pretrained(tmp_path / 'classifier')
    init_default_scope('mmseg')
    mine = MODELS.build(page_lines('HFBackbone', **{'pretrain/swin-tiny': tmp_path / 'classifier'}))
    weights, left = theirs.state_dict(), mine.net.state_dict()
    for key in list(left):
        if not key.startswith('hidden_states_norms.'):
            assert torch.equal(left.pop(key), weights[key]), key
    assert len(left) == 4 * 2 and all(
        bool(value.eq(float(key.endswith('weight'))).all()) for key, value in left.items())


@pytest.mark.parametrize('changes', [dict(embed_dim=16), dict(depths=[1, 1, 3, 1])])
def test_another_models_folder(swin, changes):
    folder = str(swin[0])
    init_default_scope('mmseg')
    with pytest.raises(ValueError, match='(?s)not of this SwinBackbone: .*backbone.pretrained'):
        MODELS.build(dict(type='HFBackbone', config=dict(SWIN, **changes), pretrained=folder,
                          out_indices=(1, 2, 3, 4)))


def test_a_deeper_models_folder(transformers, tmp_path):
    """Its first layers fit. Of a Swin-S, say, they are no Swin-T."""
    theirs = transformers.SwinForImageClassification(
        transformers.SwinConfig(**dict(SWIN, depths=[1, 1, 3, 1])))
    theirs.save_pretrained(tmp_path)
    init_default_scope('mmseg')
    with pytest.raises(ValueError, match='(?s)too many .*layers.2.blocks.1'):
        MODELS.build(dict(type='HFBackbone', config=SWIN, pretrained=str(tmp_path)))


def test_a_folder_in_half_precision(swin):
    """Its config says so too, and a network that is built by it trains in float all the same."""
    folder, theirs = swin
    theirs.half().save_pretrained(folder)
    assert json.loads((folder / 'config.json').read_text())['dtype'] == 'float16'
    init_default_scope('mmseg')
    for pretrained in (None, str(folder)):
        mine = MODELS.build(dict(type='HFBackbone', config=str(folder), pretrained=pretrained))
        assert {p.dtype for p in mine.parameters()} == {torch.float32}
    for key, value in theirs.state_dict().items():
        assert torch.equal(mine.net.state_dict()[key], value.float()), key


def test_keys_that_would_count_for_nothing(swin):
    folder = str(swin[0])
    init_default_scope('mmseg')
    for config in (folder, SWIN):
        for key in ('drop_path', 'init_cfg'):
            with pytest.raises(TypeError, match=f"'swin' model, have no key {key}"):
                MODELS.build(dict(type='HFBackbone', config=config, **{key: 0.3}))
        mine = MODELS.build(dict(type='HFBackbone', config=config, drop_path_rate=0.3))
        assert mine.net.config.drop_path_rate == 0.3
    with pytest.raises(ValueError, match='has no model_type'):
        MODELS.build(dict(type='HFBackbone', config=dict(embed_dim=8)))
    with pytest.raises(ValueError, match="take type='TIMMBackbone'"):
        MODELS.build(dict(type='HFBackbone', config=dict(
            model_type='timm_backbone', backbone='resnet18')))


def test_what_a_folder_says_is_data(swin, transformers):
    folder, _ = swin
    init_default_scope('mmseg')
    cfg = dict(type='HFBackbone', config=str(folder), pretrained=str(folder))
    said = json.loads((folder / 'config.json').read_text())
    # attention whose code lies on a server
    (folder / 'config.json').write_text(json.dumps(dict(said, attn_implementation='some/kernel')))
    MODELS.build(dict(cfg))
    # a class in a file beside it
    (folder / 'own.py').write_text('raise SystemExit("executed")')
    own = dict(said, model_type='own',
               auto_map=dict(AutoConfig='own.Config', AutoBackbone='own.Net'))
    (folder / 'config.json').write_text(json.dumps(own))
    with pytest.raises(ValueError, match='trust_remote_code'):
        MODELS.build(dict(cfg))
    # pickles
    (folder / 'config.json').write_text(json.dumps(said))
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    with pytest.raises(OSError, match='safetensors'):
        MODELS.build(dict(cfg))


def test_no_folder(transformers, tmp_path):
    init_default_scope('mmseg')
    for key in ('config', 'pretrained'):
        cfg = dict(dict(type='HFBackbone', config=SWIN), **{key: str(tmp_path / 'gone')})
        with pytest.raises(FileNotFoundError, match=f"backbone.{key}='.*gone' is no folder"):
            MODELS.build(cfg)


@pytest.mark.parametrize('network', ['timm-convnext-t_upernet', 'hf-swin-t_upernet'])
def test_configs_of_them(request, tmp_path, network):
    """At full size, on tensors without content; ESL's own parts learn at the head's rate."""
    request.getfixturevalue('timm' if network.startswith('timm') else 'transformers')
    cfg = composed(tmp_path, network, 'cityscapes_1-4', method='esl')
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
    init_default_scope('mmseg')
    with torch.device('meta'):
        net = revert_sync_batchnorm(MODELS.build(offline(cfg.model.segmentor)))
        images = torch.empty(2, 3, 65, 97)
        assert net.encode_decode(images, metas_of(images)).shape == (2, 19, 65, 97)
        shapes = [x.shape[1:] for x in net.backbone(torch.empty(1, 3, 224, 224))]
    assert shapes == [(96, 56, 56), (192, 28, 28), (384, 14, 14), (768, 7, 7)]
