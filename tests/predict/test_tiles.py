"""Windows over a large image against mmseg's slide mode, which keeps all logits."""
import pytest
import tiny
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_esl.looks.windows import places
from mmseg_esl.predict.tiles import Classes, source_rows, tiled_classes


def build(**changes):
    init_default_scope('mmseg')
    torch.manual_seed(1)
    model = MODELS.build(ConfigDict(tiny.segmentor(**changes)))
    classifier = model.eval().decode_head.conv_seg
    with torch.no_grad():  # every class somewhere
        classifier.weight.normal_()
        logits = model(torch.randn(1, 3, 64, 64))
        classifier.bias.sub_(logits.mean(dim=(0, 2, 3)))
    return model


def by_mmseg(model, inputs, meta, tile, stride):
    """The same windows through mmseg's own slide_inference and postprocess_result."""
    model.test_cfg = ConfigDict(mode='slide', crop_size=tile, stride=stride)
    with torch.no_grad():
        found = model.predict(inputs, [SegDataSample(metainfo=meta)])
    return found[0].pred_sem_seg.data[0]


CASES = [  # image, result, tile, stride
    ((70, 90), (70, 90), (32, 32), (22, 22)),
    ((70, 90), (70, 90), (32, 48), (32, 48)),  # no overlap
    ((70, 90), (70, 90), (33, 29), (7, 25)),  # up to five rows of windows on a pixel
    ((20, 90), (20, 90), (32, 32), (22, 22)),  # lower than a window
    ((20, 24), (20, 24), (32, 32), (22, 22)),  # one window
    ((70, 90), (141, 205), (32, 32), (22, 22)),  # the pipeline made the image smaller
    ((70, 90), (33, 31), (32, 32), (22, 22)),  # ... or larger
]


@pytest.mark.parametrize('image, result, tile, stride', CASES)
@pytest.mark.parametrize('batch', [1, 3])
def test_equals_mmseg(image, result, tile, stride, batch):
    model, inputs = build(), torch.randn(1, 3, *image)
    meta = dict(ori_shape=result, img_shape=image, pad_shape=image)
    found = tiled_classes(model, inputs, meta, tile, stride, batch)
    expected = by_mmseg(model, inputs, meta, tile, stride)
    assert found.shape == expected.shape and len(expected.unique()) == 3
    if image == result and batch == 1:
        assert torch.equal(found.long(), expected)
    else:  # sums in another order may tip a tie
        assert (found != expected).float().mean() < 0.001


@pytest.mark.parametrize('image, result, tile, stride', CASES[:5])
def test_average_logits_equal_mmseg(monkeypatch, image, result, tile, stride):
    model, inputs, rows = build(), torch.randn(1, 3, *image), []
    monkeypatch.setattr(Classes, 'add', lambda self, logits: rows.append(logits.clone()))
    meta = dict(ori_shape=result, img_shape=image, pad_shape=image)
    tiled_classes(model, inputs, meta, tile, stride)
    model.test_cfg = ConfigDict(mode='slide', crop_size=tile, stride=stride)
    with torch.no_grad():
        assert torch.equal(torch.cat(rows, dim=1), model.slide_inference(inputs, [dict(meta)])[0])


@pytest.mark.parametrize('align', [False, True])
def test_padding_is_cut_off(align):
    model, inputs = build(), torch.randn(1, 3, 64, 96)
    model.align_corners = align
    meta = dict(ori_shape=(101, 57), img_shape=(50, 90), pad_shape=(64, 96),
                padding_size=[2, 4, 3, 11])  # left, right, top, bottom
    found = tiled_classes(model, inputs, meta, (32, 32), (22, 22))
    expected = by_mmseg(model, inputs, meta, (32, 32), (22, 22))
    assert (found != expected).float().mean() < 0.001


def test_one_sigmoid_channel():
    head = dict(tiny.segmentor()['decode_head'], num_classes=2, out_channels=1, threshold=0.5)
    model = build(decode_head=head)
    inputs, meta = torch.randn(1, 3, 50, 60), dict(ori_shape=(50, 60), img_shape=(50, 60))
    found = tiled_classes(model, inputs, meta, (32, 32), (22, 22))
    expected = by_mmseg(model, inputs, meta, (32, 32), (22, 22))
    assert torch.equal(found, expected.int()) and len(found.unique()) == 2


@pytest.mark.parametrize('align', [False, True])
@pytest.mark.parametrize('out, size', [(7, 7), (13, 5), (5, 13), (1, 4), (9, 1), (100, 37)])
def test_source_rows_are_those_of_torch(out, size, align):
    column = torch.randn(size, dtype=torch.float32)
    upper, lower, weight = source_rows(out, size, align)
    expected = torch.nn.functional.interpolate(
        column[None, None, :, None], (out, 1), mode='bilinear', align_corners=align)[0, 0, :, 0]
    torch.testing.assert_close((1 - weight) * column[upper] + weight * column[lower], expected)


def test_rows_may_come_in_any_pieces():
    """Pieces of a row and of many, against one resize of the whole."""
    model, logits = build(), torch.randn(4, 40, 30)
    meta = dict(ori_shape=(93, 61))
    classes = Classes(model, (40, 30), meta)
    for piece in logits.split([1, 1, 7, 20, 1, 10], dim=1):
        classes.add(piece)
    whole = resize(logits[None], (93, 61), mode='bilinear', align_corners=False)[0].argmax(0)
    assert (classes.done != whole).float().mean() < 0.001


def test_less_than_all_logits_is_kept(monkeypatch):
    """However long the image: what is kept has the height of a window."""
    model, kept = build(), []
    real = Classes.add
    monkeypatch.setattr(Classes, 'add', lambda self, rows: (real(self, rows), kept.append(
        max(rows.shape[1], self.kept.shape[1]))))
    meta = dict(ori_shape=(400, 32), img_shape=(400, 32))
    tiled_classes(model, torch.randn(1, 3, 400, 32), meta, (32, 32), (22, 22))
    assert len(kept) > 10 and max(kept) <= 33


@pytest.mark.parametrize('size, tile, stride, number', [
    (32, 32, 22, 1), (33, 32, 22, 2), (54, 32, 22, 2), (55, 32, 22, 3), (20, 32, 22, 1),
    (64, 32, 32, 2), (65, 32, 32, 3)])
def test_no_window_too_many(size, tile, stride, number):
    """A window more, moved inwards, would look at the last pixels twice."""
    found = places(size, tile, stride)
    assert len(found) == len(set(found)) == number
    assert found[0][0] == 0 and found[-1][1] == size
    for (begin, end), (after, _) in zip(found, found[1:]):
        assert end - begin == tile and begin < after <= min(end, begin + stride)
