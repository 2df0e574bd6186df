"""convert_config.py on stock configs of mmsegmentation: each takes real training steps."""
import math
import uuid

import numpy as np
import pytest
from cityscapes_folder import draw, write, write_cityscapes
from commands import tool
from mmengine.config import Config
from mmengine.runner import Runner

import mmseg_esl.register  # noqa: F401
from mmseg_esl.storage.config import offline

COLOURS = {0: (90, 90, 90), 1: (200, 60, 40), 2: (40, 80, 200), 3: (60, 180, 60)}
RESNET = dict(base_channels=8, stem_channels=8)
# name: what makes it small, to be merged into model.segmentor
STOCK = {
    'deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024': {
        'backbone': RESNET,
        'decode_head': dict(in_channels=64, channels=16, c1_in_channels=8, c1_channels=8)},
    'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024': {
        'backbone': RESNET, 'decode_head': dict(in_channels=64, channels=16)},
    'danet/danet_r50-d8_4xb2-40k_cityscapes-512x1024': {
        'backbone': dict(depth=18, **RESNET),
        'decode_head': dict(in_channels=64, channels=16, pam_channels=8)},
    'ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024': {},
    'hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024': {},
    'bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024': {},
    'bisenetv2/bisenetv2_fcn_4xb4-amp-160k_cityscapes-1024x1024': {},
    'fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024': {},
    'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512': {},
    'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512': {
        'backbone': dict(embed_dims=24, depths=[1] * 4),
        'decode_head': dict(in_channels=[24, 48, 96, 192], channels=16)},
    'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512': {
        'backbone': dict(arch=dict(depths=[1] * 4, channels=[8, 16, 24, 32])),
        'decode_head': dict(in_channels=[8, 16, 24, 32], channels=16)},
    'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512': {},
    'point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024': {},
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Cityscapes and ADE20K in miniature, and a folder of images."""
    folder, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    write_cityscapes(folder / 'cityscapes', num_labeled=4, num_unlabeled=0, num_val=0)
    for index in range(4):
        image, label = draw(rng, (48, 96), COLOURS, void=False)
        write(folder / f'ade/images/training/{index}.jpg', image)
        write(folder / f'ade/annotations/training/{index}.png', label + 1)
        write(folder / f'more/{index}.jpg', draw(rng, (50, 100), COLOURS)[0])
    return folder


def convert(monkeypatch, source, out, folder, *options):
    tool(monkeypatch, 'convert_config.py', source, '--unlabeled', folder, '--out', out,
         '--method', 'esl', *options)


def shrink(cfg, data, changes, work):
    """Small crops of small images, a small network, nothing from the internet, two iterations."""
    cfg.model.segmentor = offline(cfg.model.segmentor)
    for name, change in changes.items():
        cfg.model.segmentor[name].update(change)
    for part in [cfg.model.segmentor, *cfg.model.segmentor.values()]:
        if isinstance(part, dict):
            part.pop('init_cfg', None)
    cfg.model.segmentor.data_preprocessor.size = (64, 64)
    cfg.model.segmentor.auxiliary_head = None  # frozen: no part of a step
    semi = cfg.train_dataloader.dataset
    semi.labeled.data_root = str(data / ('cityscapes' if 'Cityscapes' in semi.labeled.type
                                         else 'ade'))
    for step in [*semi.labeled.pipeline, *semi.unlabeled.pipeline]:
        step.update({key: value for key, value in dict(scale=(96, 48), crop_size=(64, 64)).items()
                     if key in step})
    cfg.default_hooks.parts.transforms = []
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=4)
    cfg.train_dataloader.batch_sampler.update(num_labeled=2, num_unlabeled=2)
    cfg.train_cfg.update(max_iters=2)
    cfg.model.semi_train_cfg.update(warmup_iters=0, ramp_iters=0)
    for part in ('dataloader', 'cfg', 'evaluator'):
        cfg[f'val_{part}'] = cfg[f'test_{part}'] = None
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(save_last=False)
    cfg.merge_from_dict({'work_dir': str(work), 'experiment_name': uuid.uuid4().hex,
                         'visualizer.name': uuid.uuid4().hex, 'log_level': 'WARNING'})


@pytest.mark.parametrize('name', STOCK, ids=lambda name: name.split('_')[0])
def test_stock_config_trains(name, monkeypatch, tmp_path, data, capsys):
    from mmseg_esl import stack
    out = tmp_path / 'esl.py'
    convert(monkeypatch, f'mmseg::{name}.py', out, data / 'more')
    said, text = capsys.readouterr().out, out.read_text()
    print(said, text)
    assert 'please check' in said and len(text.splitlines()) < 70
    assert max(map(len, text.splitlines())) <= 120
    cfg = Config.fromfile(str(out))
    user = Config.fromfile(Config._get_cfg_path(f'mmseg::{name}.py', '')[0])
    sampler = cfg.train_dataloader.batch_sampler
    assert sampler.num_labeled == sampler.num_unlabeled == user.train_dataloader.batch_size
    ends = [[step.end for step in each.param_scheduler] for each in (cfg, user)]
    assert ends[0] == ends[1] and cfg.train_cfg.max_iters == user.train_cfg.max_iters == ends[0][-1]
    kinds = [step.type for step in cfg.train_dataloader.dataset.unlabeled.pipeline]
    assert not {'PhotoMetricDistortion', 'LoadAnnotations'} & set(kinds)
    shrink(cfg, data, STOCK[name], tmp_path / 'work')
    stack.prepare_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.student.state_dict().items()}
    runner.train()
    assert runner.iter == 2
    after = runner.model.student.state_dict()
    assert any(not before[key].equal(value) for key, value in after.items())
    terms = {key for key in runner.message_hub.log_scalars if 'loss_' in key}
    assert any(key.endswith('loss_sce') for key in terms)
    contrast = name.split('/')[0] not in ('segmenter', 'point_rend')
    assert any(key.endswith('loss_ctr') for key in terms) == contrast
    for key in terms:
        assert math.isfinite(runner.message_hub.get_scalar(key).current()), key
