"""Networks of any channels and of one size go the way from a config to a graph."""
from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest
import tiny
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import SegDataSample

from mmseg_esl.conversion import trial
from mmseg_esl.doctor import cost
from mmseg_esl.doctor.memory import measure
from mmseg_esl.looks.scenes import _scene
from mmseg_esl.models.probe import in_channels
from mmseg_esl.predict import Masker, graph
from mmseg_esl.predict.graph import Deployed, noise

CHANNELS = (1, 2, 4, 12)
ESL = dict(type='ESL', projector=dict(channels=8), semi_train_cfg=dict(variant='dsl+ctr'),
           part_memory=dict(num_parts=2, queue_length=4))


def bands(number: int) -> dict:
    """A segmentor of images with that many channels."""
    cfg = tiny.segmentor()
    cfg['backbone']['in_channels'] = number
    cfg['data_preprocessor'].update(mean=[10.0 + i for i in range(number)],
                                    std=[20.0 + i for i in range(number)], bgr_to_rgb=False)
    return cfg


def config(number: int) -> Config:
    return Config(dict(
        model=dict(ESL, segmentor=bands(number)), train_cfg=dict(max_iters=10),
        train_dataloader=dict(batch_sampler=dict(num_labeled=2, num_unlabeled=2)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))


@pytest.mark.parametrize('number', CHANNELS)
def test_converter_doctor_and_cost(number):
    assert trial.find_settings(bands(number), ESL) == ({}, '')
    found, rgb = measure(config(number)), measure(config(3))
    stem = 8 // 2 * 9  # 3 x 3 kernels of ResNetV1c's first convolution
    assert found.trained - rgb.trained == 4 * stem * (number - 3)
    flops, of_rgb = cost.forward_flops(config(number))[0], cost.forward_flops(config(3))[0]
    assert flops - of_rgb == 2 * stem * (number - 3) * 16 * 16  # on 32 x 32, stride 2


@pytest.mark.parametrize('kind', ['GCT', 'PseudoSeg', 'CorrMatch', 'PSMT', 'PC2Seg', 'UniMatch'])
def test_methods_train_on_four_channels(kind):
    cfg = tiny.method_cfg(kind, seg=bands(4))
    cfg.pop('segmentor')
    assert trial.find_settings(bands(4), cfg) == ({}, '')


def test_colours_are_left_out_where_there_are_none():
    method = dict(type='FixMatch', strong_view=dict(type='RandomIntensity'))
    settings, why = trial.find_settings(bands(4), method)
    assert settings == dict(strong_view=None) and 'RGB images, and these have 4 channels' in why
    assert trial.find_settings(tiny.segmentor(), method) == ({}, '')


@pytest.mark.parametrize('number', CHANNELS)
def test_the_graph_predicts_as_the_segmentor(tmp_path, monkeypatch, number):
    pytest.importorskip('onnxruntime')
    init_default_scope('mmseg')
    model = MODELS.build(ConfigDict(bands(number))).eval()
    model.dataset_meta = dict(classes=tiny.CLASSES, palette=tiny.PALETTE)
    deployed = Deployed(model)
    images = noise(deployed, 2, (32, 48))
    assert images.shape[1] == number == in_channels(model)
    meta = dict(ori_shape=(32, 48), img_shape=(32, 48))
    with torch.no_grad():
        wanted = model.test_step(dict(
            inputs=list(images), data_samples=[SegDataSample(metainfo=meta) for _ in images]))
        found = deployed(images)
    torch.testing.assert_close(found, torch.stack([w.seg_logits.data for w in wanted]))
    if number != 12:
        return  # writing one is enough
    monkeypatch.setattr(graph, '_newer', lambda: False)  # a tenth of the newer exporter's time
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        monkeypatch.setattr(torch.onnx, 'export', partial(torch.onnx.export, dynamo=False))
    graph.export(deployed, tmp_path / 'graph.onnx', (32, 48))
    difference, agreement = graph.compare(deployed, tmp_path / 'graph.onnx', [images])
    assert difference < 1e-3 and agreement > 0.99


@TRANSFORMS.register_module(force=True)
class LoadBands(LoadImageFromFile):
    """Any number of channels, from a NumPy file."""

    def transform(self, results):
        results['img'] = np.load(results['img_path'])
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


@pytest.mark.parametrize('number', CHANNELS)
def test_masks_are_predicted_of_any_channels(tmp_path, number):
    init_default_scope('mmseg')
    model = MODELS.build(ConfigDict(bands(number))).eval()
    model.dataset_meta = dict(classes=tiny.CLASSES, palette=tiny.PALETTE)
    model.cfg = Config(dict(test_pipeline=[dict(type='LoadBands'), dict(type='PackSegInputs')]))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, number), np.uint8)
    np.save(tmp_path / 'a.npy', pixels)
    band = np.arange(number)
    images = (torch.from_numpy((pixels - (10.0 + band)) / (20.0 + band)).float()
              .permute(2, 0, 1)[None])
    with torch.no_grad():
        model.decode_head.conv_seg.weight.normal_()
        model.decode_head.conv_seg.bias.sub_(model(images).mean(dim=(0, 2, 3)))  # some of each
        wanted = torch.nn.functional.interpolate(model(images), (32, 48), mode='bilinear')
    masker = Masker(model)
    mask = masker([masker.prepare(str(tmp_path / 'a.npy'))])[0]
    assert (mask == wanted.argmax(dim=1)[0].numpy()).mean() > 0.99 and len(np.unique(mask)) > 1


@pytest.mark.parametrize('number', CHANNELS)
def test_pictures_show_the_first_channels(number):
    inputs = torch.randn(number, 5, 7)
    sample = SegDataSample(metainfo=dict(img_path='a.npy'))
    image = _scene(dict(inputs=inputs, data_samples=sample)).image
    assert image.shape == (5, 7, 3) and image.dtype == np.uint8 and image.min() == 0
    assert (image[..., 0] == image[..., 2]).all() == (number < 3)


# ------------------------------------------------------------------------------ tied to a size


def stock(name, size=(96, 96), **backbone) -> dict:
    """One of mmseg's vision transformers, shrunk."""
    model = Config.fromfile(Config._get_cfg_path(
        f'mmseg::_base_/models/{name}', '')[0]).model.to_dict()
    model.update(pretrained=None, auxiliary_head=None, test_cfg=dict(mode='whole'))
    model['data_preprocessor']['size'] = size
    model['backbone'].update(dict(embed_dims=16, num_layers=4, num_heads=2, mlp_ratio=1,
                                  img_size=size, out_indices=(0, 1, 2, 3)), **backbone)
    model['decode_head'].update(in_channels=[16] * 4, channels=8, num_classes=3)
    return model


def beit(name='upernet_beit.py'):
    model = stock(name)
    model['neck']['embed_dim'] = 16
    return model


def mae():
    return beit('upernet_mae.py')


def dpt():
    """Its backbone gives pairs of features and a class token."""
    model = stock('dpt_vit-b16.py', img_size=96)
    model['decode_head'].update(embed_dims=16, post_process_channels=[8] * 4)
    return model


@pytest.mark.parametrize('make', [beit, mae, dpt])
def test_networks_of_one_size_keep_their_contrast(make):
    assert trial.find_settings(make(), ESL) == ({}, '')


def lraspp(size):
    """Pools windows of 49 x 49 features, which small images have not."""
    model = tiny.segmentor(decode_head=dict(
        type='LRASPPHead', in_channels=(8, 16, 64), in_index=(0, 1, 3), branch_channels=(4, 4),
        input_transform='multiple_select', channels=8, num_classes=3, norm_cfg=tiny.NORM,
        align_corners=False, loss_decode=dict(type='CrossEntropyLoss')))
    model['backbone']['strides'] = (1, 1, 1, 1)
    model['data_preprocessor']['size'] = size
    return model


def test_a_network_for_large_images_alone():
    model = lraspp((196, 196))
    assert trial.find_settings(model, ESL) == ({}, '')
    cfg = config(3)
    cfg.model.segmentor = model
    assert measure(cfg).activations > 0 and cost.forward_flops(cfg)[0] > 0
    with pytest.raises(ValueError, match='64x20x20.*Output size is too small'):  # 80, not a probe's
        trial.find_settings(lraspp((80, 80)), ESL)


def test_knet_trains():
    """Its classifier is not where heads have theirs; its dynamic kernels are those of a step."""
    head = Config.fromfile(Config._get_cfg_path(
        'mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py',
        '')[0]).model.decode_head.to_dict()
    head.update(num_stages=2, kernel_generate_head=tiny.fcn())
    del head['kernel_update_head'][2:]
    for update in head['kernel_update_head']:
        update.update(num_classes=3, num_heads=2, feedforward_channels=8, in_channels=8,
                      out_channels=8)
        update['kernel_updator_cfg'].update(in_channels=8, feat_channels=8, out_channels=8)
    settings, _ = trial.find_settings(tiny.segmentor(decode_head=head), ESL)
    assert settings == dict(embedding='decode_head.kernel_generate_head.conv_seg')


def test_the_reason_is_that_of_trainings_size():
    model = beit()
    model['data_preprocessor']['size'] = (80, 80)
    with pytest.raises(ValueError, match='size of tensor a .26'):  # 5 * 5 patches and a token
        trial.find_settings(model, ESL)


def test_focal_loss_is_no_fault_of_the_head():
    model = tiny.segmentor()
    model['decode_head']['loss_decode'] = [dict(type='FocalLoss'), dict(type='CrossEntropyLoss')]
    assert trial.find_settings(model, ESL) == ({}, '')
    assert trial.has_focal(model) is not torch.cuda.is_available()
    assert not trial.has_focal(tiny.segmentor())
