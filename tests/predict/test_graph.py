"""The exported graph in onnxruntime against mmseg's own inference in torch."""
import copy
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_esl.predict import Masker, graph
from mmseg_esl.predict.graph import Deployed, compare, export, resize_rule

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
TOLERANCE = 1e-4  # of the largest logit


def build(**changes):
    init_default_scope('mmseg')
    torch.manual_seed(1)
    cfg = tiny.segmentor(**changes)
    cfg['data_preprocessor'].update(mean=MEAN, std=STD)
    model = MODELS.build(ConfigDict(cfg)).eval()
    classifier = model.decode_head.conv_seg
    with torch.no_grad():  # every class somewhere
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
        classifier.weight.normal_()
        classifier.bias.sub_(model(torch.randn(1, 3, 64, 64)).mean(dim=(0, 2, 3)))
    model.dataset_meta = dict(classes=tiny.CLASSES, palette=tiny.PALETTE)
    return model


def images(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (n, 3, h, w), dtype=torch.uint8, generator=generator)
            for n, h, w in sizes]


def by_mmseg(model, rgb):
    """Through preprocessor and predict, from BGR as mmseg's loader gives it."""
    meta = dict(ori_shape=rgb.shape[-2:], img_shape=rgb.shape[-2:])
    data = dict(inputs=[image[[2, 1, 0]] for image in rgb],
                data_samples=[SegDataSample(metainfo=meta) for _ in rgb])
    with torch.no_grad():
        results = model.test_step(data)
    return (torch.stack([result.seg_logits.data for result in results]).numpy(),
            torch.stack([result.pred_sem_seg.data[0] for result in results]).numpy())


def run(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'image': image.numpy()})[0]


# half of the backbone: the newer exporter takes its time
SHALLOW = dict(tiny.segmentor()['backbone'], num_stages=2, out_indices=(0, 1), strides=(1, 2),
               dilations=(1, 1))


def psp() -> dict:
    """Pools to 1 x 1 and 2 x 2."""
    return dict(
        type='PSPHead', in_channels=64, in_index=3, channels=8, pool_scales=(1, 2), num_classes=3,
        norm_cfg=tiny.NORM, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'))


def agree(path, model, shapes) -> None:
    for image in images(*shapes):
        logits, classes = by_mmseg(model, image)
        found = run(path, image)
        assert found.shape == logits.shape and len(np.unique(classes)) > 1
        assert np.abs(found - logits).max() < TOLERANCE * np.abs(logits).max()
        assert (found.argmax(axis=1) == classes).mean() > 0.9999


@pytest.fixture(scope='module')
def deeplab(tmp_path_factory):
    """(what was exported, file): one export for several tests."""
    folder = tmp_path_factory.mktemp('graph')
    head = dict(tiny.segmentor()['decode_head'], in_channels=16, in_index=1)
    deployed = Deployed(build(backbone=SHALLOW, decode_head=head))
    export(deployed, folder / 'm.onnx', None)
    assert [path.name for path in folder.iterdir()] == ['m.onnx']
    return deployed, folder / 'm.onnx'


def test_logits_of_any_size(deeplab):
    agree(deeplab[1], deeplab[0].segmentor, [(1, 64, 96), (2, 40, 72), (3, 131, 67)])


def test_metadata(deeplab):
    props = {p.key: p.value for p in onnx.load(str(deeplab[1])).metadata_props}
    assert 'RGB' in props['input'] and 'uint8' in props['input'] and 'logits' in props['output']
    assert json.loads(props['classes']) == list(tiny.CLASSES)
    assert json.loads(props['palette']) == tiny.PALETTE
    np.testing.assert_allclose(json.loads(props['mean']), MEAN, rtol=1e-6)
    np.testing.assert_allclose(json.loads(props['std']), STD, rtol=1e-6)


def test_compare_notices_another_network(deeplab):
    deployed, path = deeplab
    difference, agreement = compare(deployed, path, images((1, 64, 64)))
    assert difference < TOLERANCE and agreement > 0.9999
    other = copy.deepcopy(deployed)
    with torch.no_grad():
        other.segmentor.decode_head.conv_seg.weight.mul_(-1)
    difference, agreement = compare(other, path, images((1, 64, 64)))
    assert difference > 0.1 and agreement < 0.9


def test_classes_of_a_fixed_size(tmp_path):
    """An FCN on half of the backbone."""
    head = tiny.fcn(in_channels=16, in_index=1, align_corners=True)
    model = build(backbone=SHALLOW, decode_head=head)
    deployed = Deployed(model, argmax=True)
    export(deployed, tmp_path / 'm.onnx', (64, 48))
    for image in images((1, 64, 48), (3, 64, 48)):
        expected = by_mmseg(model, image)[1]
        assert len(np.unique(expected)) > 1
        assert (run(tmp_path / 'm.onnx', image) == expected).mean() > 0.9999
    with pytest.raises(RuntimeError, match=r'fails on images of \(1, 3, 48, 48\).*invalid dim'):
        compare(deployed, tmp_path / 'm.onnx', images((1, 48, 48)))
    assert compare(deployed, tmp_path / 'm.onnx', images((1, 64, 48)))[1] > 0.9999


@pytest.fixture
def older(monkeypatch):
    """What torch before 2.6 takes; newer ones still have it."""
    monkeypatch.setattr('mmseg_esl.predict.graph._newer', lambda: False)
    real = torch.onnx.export
    if 'dynamo' in inspect.signature(real).parameters:
        monkeypatch.setattr(torch.onnx, 'export', lambda *a, **k: real(*a, **k, dynamo=False))


def test_the_older_exporter(older, tmp_path):
    model = build()
    export(Deployed(model), tmp_path / 'm.onnx', None)
    agree(tmp_path / 'm.onnx', model, [(1, 64, 96), (2, 40, 72)])
    model = build(decode_head=psp())
    export(Deployed(model), tmp_path / 'p.onnx', (64, 64))
    agree(tmp_path / 'p.onnx', model, [(1, 64, 64), (2, 64, 64)])


def test_grids_need_a_fixed_size(tmp_path):
    """The newer exporter writes a graph that fails at some sizes only."""
    with pytest.raises(RuntimeError, match='pools to a grid of 2 and cannot.*--size H W'):
        export(Deployed(build(decode_head=psp())), tmp_path / 'm.onnx', None)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_exported_says_so(older, tmp_path):
    class NotOfOnnx(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.lu(x)[0]

    model = build()
    model.decode_head.conv_seg = NotOfOnnx()
    with pytest.raises(RuntimeError, match='DepthwiseSeparableASPPHead cannot be exported'):
        export(Deployed(model), tmp_path / 'm.onnx', (64, 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('converted', [True, False])
def test_networks_of_either_order_take_rgb(converted):
    model = build()
    model.data_preprocessor.channel_conversion = converted
    image = images((1, 64, 64))[0]
    with torch.no_grad():
        found = Deployed(model)(image).numpy()
    np.testing.assert_allclose(found, by_mmseg(model, image)[0], rtol=1e-5, atol=1e-5)
    swapped = by_mmseg(model, image.flip(1))[0]
    assert np.abs(found - swapped).max() > 0.01  # the order does matter here


def test_one_sigmoid_channel():
    head = dict(tiny.segmentor()['decode_head'], num_classes=2, out_channels=1, threshold=0.5)
    model, image = build(decode_head=head), images((1, 64, 64))[0]
    with torch.no_grad():
        found = Deployed(model, argmax=True)(image).numpy()
    expected = by_mmseg(model, image)[1]
    assert np.array_equal(found, expected) and len(np.unique(found)) == 2


@pytest.mark.parametrize('step, rule', [
    (dict(scale=(96, 64), keep_ratio=True), dict(within=[96, 64])),
    (dict(scale=(64, 48), keep_ratio=False), dict(size=[48, 64])),
    (dict(scale_factor=0.5, keep_ratio=True), dict(factor=0.5)), (None, {})])
def test_the_snippet_of_the_page_predicts_as_predict_py(tmp_path, monkeypatch, step, rule):
    """At the size of the test pipeline, which the graph carries."""
    monkeypatch.setattr(graph, '_newer', lambda: False)  # the older exporter takes a tenth
    real = torch.onnx.export
    if 'dynamo' in inspect.signature(real).parameters:
        monkeypatch.setattr(torch.onnx, 'export', lambda *a, **k: real(*a, **k, dynamo=False))
    monkeypatch.chdir(tmp_path)
    model = build()
    model.cfg = Config(dict(test_pipeline=[
        dict(type='LoadImageFromFile'), *([dict(type='Resize', **step)] if step else []),
        dict(type='PackSegInputs')]))
    coarse = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    Image.fromarray(coarse).resize((208, 136)).save('photo.png')
    export(Deployed(model), 'model.onnx', None)
    page = (Path(__file__).parents[2] / 'docs/predict.md').read_text(encoding='utf-8')
    snippet, = [text for text in re.findall(r'```python\n(.*?)```', page, re.DOTALL)
                if 'onnxruntime' in text]
    exec(compile(snippet, 'predict.md', 'exec'), {})
    masker = Masker(model)
    wanted = masker([masker.prepare('photo.png')])[0]
    assert (np.asarray(Image.open('mask.png')) == wanted).mean() > 0.99
    meta = onnxruntime.InferenceSession('model.onnx').get_modelmeta().custom_metadata_map
    assert json.loads(meta['resize']) == rule
    if step:  # or the test would prove nothing
        image = np.asarray(Image.open('photo.png')).transpose(2, 0, 1)[None]
        assert (run('model.onnx', torch.from_numpy(image)).argmax(1)[0] == wanted).mean() < 0.97


def test_a_fixed_size_and_other_steps_are_said():
    model = build()
    model.cfg = Config(dict(test_pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=64, keep_ratio=True),
        dict(type='ResizeToMultiple'), dict(type='PackSegInputs')]))
    assert resize_rule(model, None) == (dict(within=[64, 64]), ['ResizeToMultiple'])
    assert resize_rule(model, (48, 64)) == (dict(size=[48, 64]), ['ResizeToMultiple'])
