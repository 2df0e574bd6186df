"""Pictures of images and classes whose names are no easy ones."""
import numpy as np
import pytest
import tiny
import torch
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_esl.looks.album import Album
from mmseg_esl.looks.scenes import Scene, Trained

CLASSES = ('$\\frac{$', '$x^2$', 'a_b')


def scene(stem):
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    sample = SegDataSample(metainfo=dict(img_shape=(32, 32), ori_shape=(32, 32),
                                         pad_shape=(32, 32)))
    inputs = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return Scene(stem, image, dict(inputs=[inputs], data_samples=[sample]),
                 np.zeros((32, 32), np.int64))


@pytest.fixture
def album(tmp_path):
    def make(*stems):
        trained = Trained(tiny.esl().eval(), 'run/iter_2', CLASSES, None, ('student', 'teacher'))
        return Album(trained, [scene(stem) for stem in stems], tmp_path)
    return make


def test_names_are_no_formulas(album):
    """matplotlib raised an error at the first one and set the second one's exponent."""
    found = album('$\\frac{$').draw(['dominant', 'compare'])
    assert [path.name for path in found['dominant']] == [
        'dominant_$\\frac{$.png', 'contact_sheet_dominant.png']
    assert Image.open(found['compare'][0]).width == 1000


def test_names_as_long_as_can_be(album):
    long, alike, accents = 'a' * 251, 'a' * 250 + 'b', 'ä' * 125
    found = album(long, alike, accents, 'short').draw(['dominant'])['dominant']
    names = [path.name for path in found[:4]]
    assert len(set(names)) == 4 and names[3] == 'dominant_short.png'
    assert all(path.is_file() for path in found)
    assert names[0].startswith('dominant_aaaa') and names[2].startswith('dominant_ää')
