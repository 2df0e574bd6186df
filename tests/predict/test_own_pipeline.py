"""Loaders of one's own while predicting: what they leave out is named, what has no colours, too."""
from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import TRANSFORMS
from PIL import Image

from mmseg_esl.predict import Masker, Painter, list_items
from mmseg_esl.predict.run import predict


@TRANSFORMS.register_module(force=True)
class ForgetfulLoader(LoadImageFromFile):

    def transform(self, results):
        super().transform(results)


def masker(kind='LoadImageFromFile'):
    """Its network is not come to."""
    init_default_scope('mmseg')
    return Masker(SimpleNamespace(cfg=ConfigDict(test_pipeline=[
        dict(type=kind), dict(type='PackSegInputs')])))


def test_an_image_without_anything_is_left_out_and_said(tmp_path):
    Image.new('RGB', (8, 6)).save(tmp_path / 'a.png')
    said = []
    found = predict(list_items([tmp_path / 'a.png'], tmp_path / 'out'), masker('ForgetfulLoader'),
                    Painter(('a', ), [[1, 2, 3]]), warn=said.append)
    (path, why), = found.broken
    assert path.endswith('a.png') and 'gave None for it' in why and len(said) == 1
    assert not (tmp_path / 'out').exists()


def test_an_overlay_over_what_has_no_colours_is_refused(tmp_path):
    np.save(tmp_path / 'a.npy', np.zeros((6, 8, 12), np.uint8))
    painter = Painter(('a', ), [[1, 2, 3]], read=masker().read)
    mask = np.zeros((6, 8), np.int32)
    with pytest.raises(ValueError, match=r"a\.npy' cannot be shown.*--save index,color"):
        painter('overlay', mask, str(tmp_path / 'a.npy'))


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'CMYK', 'I;16', '1'])
def test_overlays_over_images_of_other_kinds(tmp_path, mode):
    path = str(tmp_path / ('a.tif' if mode == 'CMYK' else 'a.png'))
    Image.new('L', (8, 6), 99).convert('I;16' if mode == 'I;16' else mode).save(path)
    painter = Painter(('a', ), [[1, 2, 3]], read=masker().read)
    drawn = np.asarray(painter('overlay', np.zeros((6, 8), np.int32), path))
    assert drawn.shape == (6, 8, 3) and drawn.dtype == np.uint8
