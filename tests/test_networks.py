"""DINOv2 and DINOv3 of configs/_base_/networks: on any data, for any method, as the page says."""
import copy
import re

import pytest
import tiny
import torch
from config_files import ALL, composed, loaded
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

from mmseg_esl.conversion import convert
from mmseg_esl.ladder import Row
from mmseg_esl.models.segmentors import metas_of

pytest.importorskip('timm', reason='the backbones are of timm: pip install timm')
NETWORKS = sorted(path.stem for path in (ALL / '_base_/networks').glob('dino*.py'))


def shrink(segmentor):
    patch = 16 if 'patch16' in segmentor.backbone.model_name else 14
    segmentor.data_preprocessor.size = (2 * patch, 2 * patch)
    segmentor.backbone.update(embed_dim=16, depth=4, num_heads=2, out_indices=(0, 1, 2, 3),
                              img_size=2 * patch, init_cfg=None)
    segmentor.decode_head.update(in_channels=[16] * 4, channels=8, num_classes=3)
    if 'neck' in segmentor:
        segmentor.neck.embed_dim = 16
    else:
        segmentor.decode_head.update(embed_dims=16, post_process_channels=[4, 5, 6, 7])
    return 2 * patch


def built(model):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    with tiny.quiet():
        model = revert_sync_batchnorm(MODELS.build(model))
        model.init_weights()
    model.driven = True
    return model.train()


def test_all_there_are():
    assert NETWORKS == sorted(f'{net}_{head}' for net in (
        'dinov2-s14', 'dinov2-b14', 'dinov3-s16', 'dinov3-b16') for head in ('dpt', 'upernet'))


@pytest.mark.parametrize('network', NETWORKS)
def test_at_full_size(network, tmp_path):
    """On tensors without content: widths fit, also at a size that is no multiple."""
    cfg = composed(tmp_path, network, 'cityscapes_1-4')
    with torch.device('meta'):
        init_default_scope('mmseg')
        net = revert_sync_batchnorm(MODELS.build(cfg.model))
        images = torch.empty(2, 3, 65, 97)
        assert net.encode_decode(images, metas_of(images)).shape == (2, 19, 65, 97)
        width, patch = (768 if '-b' in network else 384), int(network[8:10])
        maps = net.backbone(torch.empty(1, 3, 5 * patch, 3 * patch))
    assert [level.shape for level in maps] == [(1, width, 5, 3)] * 4
    assert net.decode_head.loss_decode.__class__.__name__ == 'OHEMCrossEntropyLoss'
    assert len(net.backbone.vit.blocks) == 12 and net.backbone.out_indices == [2, 5, 8, 11]
    checkpoint = cfg.model.backbone.init_cfg.checkpoint
    assert re.search(f'{network[:6]}_vit{network[7:10]}_pretrain', checkpoint)


@pytest.mark.parametrize('network', NETWORKS)
def test_a_method_steps_on_it(network, tmp_path):
    """ESL, whose own parts learn at the head's rate."""
    cfg = composed(tmp_path, network, method='esl')
    side = shrink(cfg.model.segmentor)
    cfg.model.update(projector=dict(channels=10), part_memory=dict(num_parts=2, queue_length=4))
    model = built(cfg.model)
    tiny.begin(model)
    inputs, samples = tiny.batch(size=side)
    tiny.total(model.loss(inputs, samples)).backward()
    assert [name for name, p in model.student.named_parameters()
            if p.grad is None or not p.grad.isfinite().all()] == []
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    slow = set(map(id, model.student.backbone.parameters()))
    for group in wrapper.optimizer.param_groups:
        rate = 5e-6 if id(group['params'][0]) in slow else 2e-4
        assert group['lr'] == pytest.approx(rate) and group['weight_decay'] == 0.01
    assert len(wrapper.optimizer.param_groups) == len(list(model.student.parameters())) + len(
        list(model.projector.parameters()))


def test_the_tools_take_it(tmp_path, monkeypatch):
    """tools/ladder.py on one of our partitions, tools/convert_config.py on a config of mmseg's."""
    composed(tmp_path, 'dinov2-s14_dpt')
    ours = Row('ours', 'unimatch_v2').leaf(tmp_path / 'my_data.py')
    stock = "'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-20k_voc12aug-512x512.py'"
    source = tmp_path / 'stock.py'
    (tmp_path / 'more').mkdir()
    source.write_text(re.sub("'[^']*/partitions/[^']*'", stock,
                             (tmp_path / 'my_data.py').read_text()))
    Image.new('RGB', (40, 40)).save(tmp_path / 'more/u.jpg')
    monkeypatch.chdir(tmp_path)
    theirs = convert(str(source), 'more', 'theirs.py', method='unimatch_v2').text
    for name, text in (('ours', ours), ('theirs', theirs)):
        (tmp_path / f'{name}.py').write_text(text)
        cfg = Config.fromfile(str(tmp_path / f'{name}.py'))
        segmentor = cfg.model.segmentor
        assert cfg.model.type == 'UniMatchV2' and segmentor.decode_head.num_classes == 21
        assert (segmentor.backbone.type, segmentor.decode_head.type) == (
            'TIMMPlainViT', 'MapDPTHead')
        assert cfg.optim_wrapper.optimizer == dict(
            type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.01)


def test_channels_are_dropped_before_dpt():
    """Of the four token maps alike: what one view loses the other has doubled; half stay whole."""
    cfg = copy.deepcopy(loaded(ALL / 'unimatch_v2/unimatch_v2_dinov2-s14-dpt_voc-classic_1-16.py'))
    side = shrink(cfg.model.segmentor)
    cfg.model.pop('strong_view')
    cfg.model.semi_train_cfg.update(threshold=0.0, cutmix_prob=0.0)  # both views are the weak one
    model, seen = built(cfg.model), []
    model.student.decode_head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    tiny.total(model.loss(*tiny.batch(unlabeled=4, size=side))).backward()
    levels = next(maps for maps in seen if len(maps[0]) == 8)
    whole = model.student.backbone(tiny.batch(unlabeled=4, size=side)[0][2:])
    kinds = []
    for level, clean in zip(levels, whole):
        first, second = level.detach().chunk(2)
        torch.testing.assert_close(first + second, 2 * clean.detach())
        factor = (first / clean.detach()).round()
        assert factor.eq(factor[..., :1, :1]).all() and set(factor.unique().tolist()) == {0, 1, 2}
        kinds.append(factor[..., 0, 0])
    assert len(levels) == 4 and all(torch.equal(kinds[0], kind) for kind in kinds)
    assert sorted(kinds[0].eq(1).all(1).tolist()) == [False, False, True, True]
