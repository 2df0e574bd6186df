"""Paths beside training run a network as its evaluation does: a U-Net takes no other sizes."""
from __future__ import annotations

import pytest
import tiny
import torch
from mmengine.config import Config
from torch import nn

from mmseg_esl.looks import look
from mmseg_esl.looks.windows import over_windows, shares, windows
from mmseg_esl.models.views import View

SLIDE = dict(mode='slide', crop_size=(32, 32), stride=(20, 20))


def unet(**test_cfg) -> dict:
    """mmseg's, whose decoder dies on sides that are no multiples of 16."""
    model = Config.fromfile(Config._get_cfg_path(
        'mmseg::_base_/models/fcn_unet_s5-d16.py', '')[0]).model.to_dict()
    model['backbone'].update(base_channels=4)
    model['decode_head'].update(in_channels=4, channels=8, num_classes=3)
    preprocessor = tiny.segmentor()['data_preprocessor']
    model.update(pretrained=None, auxiliary_head=None, test_cfg=dict(SLIDE, **test_cfg),
                 data_preprocessor=preprocessor)
    return model


def crops(root) -> dict:
    cfg = tiny.loader_cfg(root)
    for part in ('labeled', 'unlabeled'):
        steps = cfg['dataset'][part]['pipeline']
        steps.insert(2, dict(type='RandomCrop', crop_size=(32, 32)))
    return cfg


@pytest.mark.parametrize('size', [40, 24])
def test_a_unet_is_clustered_and_audited_on_images_of_any_size(tmp_path, size):
    data = tmp_path / 'data'
    tiny.write_data(data, size=size)
    val = tiny.val_loader_cfg(data)
    val['dataset']['pipeline'].insert(1, dict(type='Resize', scale=(40, 40)))
    runner = tiny.run(
        tmp_path, data, [tiny.EMA, tiny.PARTS, dict(type='PseudoLabelAuditHook', interval=1)],
        max_iters=1, val=True, train_dataloader=crops(data), val_dataloader=val,
        model=tiny.esl_cfg(segmentor=unet()))
    assert runner.model.part_memory.initialised
    assert (runner.model.part_memory.prototypes != 0).any(dim=-1).all()
    assert (tmp_path / 'work/audit/iter_1.json').is_file()


@torch.no_grad()
def test_a_look_is_what_mmsegs_windows_give():
    model = tiny.esl(segmentor=unet()).eval()
    images, _ = tiny.batch(1, 1, size=(40, 72))
    seen = look(model, images)
    logits = model.teacher.slide_inference(images, [dict() for _ in images])
    torch.testing.assert_close(seen.probs, logits.softmax(dim=1))
    assert seen.embedding.shape[-2:] == seen.encoder.shape[-2:] == (40, 72)
    assert (seen.parts >= 0).all() and seen.parts.shape[-2:] == (40, 72)
    assert (seen.parts.div(2, rounding_mode='floor') == seen.classes).all()


@pytest.mark.parametrize('size', [(40, 72), (32, 32), (20, 33), (53, 31)])
def test_windows_cover_an_image_and_features_keep_their_place(size):
    net = nn.Module()
    net.test_cfg = SLIDE
    assert windows(net, size)[-1][0].stop == size[0] and windows(net, size)[-1][1].stop == size[1]
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in size), indexing='ij')
    images = torch.stack([rows, columns])[None]
    pooled = nn.AvgPool2d(4, ceil_mode=True, count_include_pad=False)
    view = over_windows(net, images, lambda x: View(x, encoder=pooled(x)))
    assert torch.equal(view.logits, images) and view.embedding is None
    whole = pooled(images)
    if size[0] >= 32 and size[1] >= 32 and size[0] % 4 == size[1] % 4 == 0:
        torch.testing.assert_close(view.encoder, whole)  # windows begin at multiples of 4
    else:
        assert (torch.tensor(view.encoder.shape) - torch.tensor(whole.shape)).abs().max() <= 1
    labels = (rows * size[1] + columns).long()[None]
    found = [(window, known) for window, known in shares(net, images, labels)]
    assert all(window.shape[-2:] == (32, 32) == known.shape[-2:] for window, known in found)
    counted = torch.cat([known[known >= 0] for _, known in found])
    assert torch.equal(counted.sort().values, labels.flatten())  # each pixel once
    for window, known in found:  # and at its place
        y, x = window[0][:, known[0] >= 0]
        assert torch.equal(y * size[1] + x, known[known >= 0].float())
