"""Weights that are not finite are refused by whoever loads them, and not used in silence."""
import math

import pytest
import tiny
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import MODELS

from mmseg_esl.predict import model as predict_model
from mmseg_esl.storage.resumable import why_unreadable

NAME = 'student.decode_head.conv_seg.bias'


@pytest.fixture(scope='module')
def content():
    return dict(state_dict=tiny.esl().state_dict(), meta={}, message_hub={})


def spoilt(content, path, name, value, key='state_dict'):
    tensors = {k: v.clone() for k, v in content['state_dict'].items()}
    tensors[name].flatten()[0:1].fill_(value)
    torch.save({**content, key: tensors}, path)
    return str(path)


@pytest.mark.parametrize('key', ['state_dict', 'optimizer'])
def test_nan_is_refused_by_the_one_loader(content, tmp_path, key):
    """Which predict, test, export, pictures, training's load_from and init_cfg share."""
    path = spoilt(content, tmp_path / 'a.pth', NAME, math.nan, key)
    with pytest.raises(RuntimeError, match=f'a.pth is of a training.*NaN in .{NAME}.*earlier'):
        CheckpointLoader.load_checkpoint(path)
    torch.save(torch.load(path)[key], path)  # weights alone, without a frame
    with pytest.raises(RuntimeError, match=NAME):
        CheckpointLoader.load_checkpoint(path)
    assert 'NaN' in why_unreadable(tmp_path / 'a.pth')  # --resume takes the one before


@pytest.mark.parametrize('name', [NAME, 'part_memory.prototypes',
                                  'student.backbone.stem.1.running_var'])
def test_an_infinity_is_refused_by_the_method(content, tmp_path, name):
    path = spoilt(content, tmp_path / 'a.pth', name, math.inf)
    state = CheckpointLoader.load_checkpoint(path)['state_dict']
    model = tiny.esl()
    with pytest.raises(ValueError, match=f'NaN or infinity in {name}'):
        model.load_state_dict(dict(state))
    model.may_be_infinite = (name, )
    model.load_state_dict(dict(state))
    with torch.no_grad():  # by design: the model's own is infinite, too
        dict([*model.named_parameters(), *model.named_buffers()])[name].fill_(math.inf)
    model.may_be_infinite = ()
    model.load_state_dict(dict(state))


def test_an_infinity_is_refused_by_predictions():
    segmentor = MODELS.build(tiny.segmentor())
    state = {name: value.clone() for name, value in segmentor.state_dict().items()}
    predict_model.fill(segmentor, state, 'a.pth')
    state['decode_head.conv_seg.bias'][0] = math.inf
    with pytest.raises(ValueError, match='a.pth is of a training.*decode_head.conv_seg.bias'):
        predict_model.fill(segmentor, state, 'a.pth')
