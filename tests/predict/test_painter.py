"""Index, colour and overlay pictures, read back by other libraries."""
import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmseg_esl.predict import Painter
from mmseg_esl.predict.pictures import save

RNG = np.random.default_rng(0)
CLASSES = ('ground', 'red', 'blue', 'never seen')
PALETTE = [[90, 90, 90], [200, 60, 40], [40, 80, 200], [1, 2, 3]]


@pytest.fixture
def mask():
    return RNG.integers(0, 3, (6, 8)).repeat(9, 0).repeat(7, 1).astype(np.int32)


@pytest.fixture
def photo(tmp_path, mask):
    path = str(tmp_path / 'photo.png')
    Image.fromarray(RNG.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)).save(path)
    return path


def test_index(tmp_path, mask):
    path = tmp_path / 'new folder' / 'mask.png'
    save(Painter(CLASSES, PALETTE)('index', mask, 'unread.jpg'), path)
    picture = Image.open(path)
    assert picture.mode == 'P' and np.array_equal(np.asarray(picture), mask)
    colours = cv2.imread(str(path))[..., ::-1]  # OpenCV resolves the palette
    assert np.array_equal(colours, np.array(PALETTE)[mask])
    assert [file.name for file in path.parent.iterdir()] == ['mask.png']


@pytest.mark.parametrize('number, depth', [(256, np.uint8), (257, np.uint16)])
def test_index_of_many_classes(tmp_path, number, depth):
    mask = np.arange(number, dtype=np.int32)[None]
    palette = RNG.integers(0, 256, (number, 3)).tolist()
    save(Painter([str(i) for i in range(number)], palette)('index', mask, ''), tmp_path / 'm.png')
    found = np.asarray(Image.open(tmp_path / 'm.png'))
    assert found.dtype == depth and np.array_equal(found, mask)


def test_color(tmp_path, mask):
    save(Painter(CLASSES, PALETTE)('color', mask, 'unread.jpg'), tmp_path / 'm.png')
    found = cv2.imread(str(tmp_path / 'm.png'), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(found, np.array(PALETTE)[mask])


@pytest.mark.parametrize('opacity', [0.3, 1.0])
def test_overlay_is_that_of_mmseg(photo, mask, opacity):
    found = np.asarray(Painter(CLASSES, PALETTE, opacity)('overlay', mask, photo))
    stock = SegLocalVisualizer(alpha=opacity)
    stock.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    stock.add_datasample('x', mmcv.imread(photo, channel_order='rgb'), SegDataSample(
        pred_sem_seg=PixelData(data=torch.from_numpy(mask)[None])), draw_gt=False)
    assert np.array_equal(found, stock.get_image())
    assert found.std() > 10


def test_overlay_of_another_size(photo, mask):
    with pytest.raises(ValueError, match='photo.png.*leave the overlay out'):
        Painter(CLASSES, PALETTE)('overlay', mask[1:], photo)
