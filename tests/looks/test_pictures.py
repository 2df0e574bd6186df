"""Soft labels, parts and comparisons: what is drawn, against counts made another way."""
import numpy as np
import pytest
from drawing import check_legible, pictures_in, view, words
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image
from scipy.stats import entropy
from sklearn.metrics import jaccard_score

from mmseg_esl.looks import panels, pictures
from mmseg_esl.looks.palette import COUNTS, WRONG, class_colours, part_colours

NAMES = ('ground', 'thing', 'sky')
MANY = [f'a class with a name {i}' for i in range(21)]


def dominant_by_hand(probs, mass=0.95):
    """(H, W) number of dominant classes, pixel by pixel."""
    out = np.zeros(probs.shape[1:], int)
    for y, x in np.ndindex(out.shape):
        total = 0.0
        for p in sorted(probs[:, y, x], reverse=True):
            total += p
            out[y, x] += 1
            if total >= mass:
                break
    return out


def test_dominant():
    _, image, seen = view()
    probs = seen.probs[0].double().numpy()
    counts = dominant_by_hand(probs)
    figure = pictures.dominant(image, seen, NAMES)
    assert [(counts == n).sum() > 0 for n in (1, 2, 3)] == [True] * 3
    legend = [t.get_text() for t in figure.axes[1].get_legend().get_texts()]
    assert legend == [f'{name}: {100 * (counts == n).mean():.1f} %'
                      for name, n in (('1', 1), ('2', 2), ('3 or more', 3))]
    shown, painted, uncertain = pictures_in(figure)[:3]
    assert np.array_equal(shown, image) and np.array_equal(painted, COUNTS[counts - 1])
    np.testing.assert_allclose(uncertain, entropy(probs, axis=0) / np.log(3), atol=1e-6)
    y, x = np.unravel_index(uncertain.argmax(), uncertain.shape)
    assert any(f'pixel ({x}, {y})' in word for word in words(figure))


@pytest.mark.parametrize('pixel', [(0, 0), (20, 7)])
def test_bars_are_the_pixels_probabilities(pixel):
    _, image, seen = view()
    figure = pictures.dominant(image, seen, NAMES, pixel=pixel)
    probs = seen.probs[0, :, pixel[1], pixel[0]].numpy()
    order = sorted(range(3), key=lambda c: -probs[c])
    axis = figure.axes[3]
    np.testing.assert_allclose([bar.get_width() for bar in axis.patches], probs[order])
    assert [t.get_text() for t in axis.get_yticklabels()] == [NAMES[c] for c in order]
    size = dominant_by_hand(seen.probs[0].double().numpy())[pixel[1], pixel[0]]
    blue = [to_hex(bar.get_facecolor()).upper() == pictures.DOMINANT for bar in axis.patches]
    assert blue == [rank < size for rank in range(3)]
    assert axis.lines[0].get_xdata()[0] == probs[order[size - 1]]
    for panel in figure.axes[:3]:  # marked in each map
        assert [tuple(line.get_xydata()[0]) for line in panel.lines] == [pixel] * 3


def test_parts():
    model, image, seen = view()
    figure = pictures.parts(image, seen, NAMES, 2)
    found, colours = seen.parts[0].numpy(), class_colours(NAMES)
    shades = part_colours(colours, 2)
    wanted = np.array([[shades[part] for part in row] for row in found])
    assert np.array_equal(pictures_in(figure)[1], wanted)
    there = sorted({part // 2 for part in found.ravel().tolist()})
    legend = figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()] == [NAMES[c] for c in there]
    drawn = [to_hex(patch.get_facecolor()) for patch in legend.findobj(Rectangle)]
    assert drawn == [to_hex(shades[2 * c + k] / 255) for c in there for k in range(2)]


def maps(seed=0, shape=(12, 16)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, shape)
    truth[:, -2:], truth[0] = 255, 7  # padding, and a label outside of the classes
    return truth, {'one': rng.integers(0, 3, shape), 'two': np.clip(truth, 0, 1)}


def test_compare():
    truth, made = maps()
    figure = pictures.compare(np.zeros((12, 16, 3), np.uint8), made, NAMES, truth)
    shown, text = pictures_in(figure), words(figure)
    for column, prediction in enumerate(made.values(), 1):
        wanted = np.empty((*truth.shape, 3))
        for y, x in np.ndindex(truth.shape):
            counts = truth[y, x] in (0, 1, 2)
            wanted[y, x] = WRONG[2 if not counts else int(truth[y, x] != prediction[y, x])]
        assert np.array_equal(shown[3 + column], wanted)
        inside = truth < 3
        seen = np.union1d(truth[inside], prediction[inside])
        iou = jaccard_score(truth[inside], prediction[inside], labels=seen, average='macro')
        assert f'mIoU of this image: {100 * iou:.1f} %' in text
        share = 100 * (truth != prediction)[inside].mean()
        assert f'{share:.1f} % of the pixels' in text
    assert {*NAMES[:2], 'right', 'wrong', 'ignored', 'one', 'two', 'truth'} <= set(text)


def test_a_class_may_be_the_one_that_is_ignored():
    truth, made = maps()
    figure = pictures.compare(np.zeros((12, 16, 3), np.uint8), made, NAMES, truth, ignore=1)
    ignored = (pictures_in(figure)[4] == WRONG[2]).all(axis=-1)
    assert np.array_equal(ignored, truth != 0)


def test_compare_without_truth():
    _, made = maps()
    figure = pictures.compare(np.zeros((12, 16, 3), np.uint8), made, NAMES)
    differ = np.where(made['one'] != made['two'], 1, 0)
    assert np.array_equal(pictures_in(figure)[3], WRONG[differ])
    assert f'{100 * differ.mean():.1f} % of the pixels' in words(figure)
    assert 'ignored' not in words(figure)


def test_compare_of_three():
    truth, made = maps()
    made['three'] = np.where(made['one'] == 2, 0, made['one'])  # differs from one, nowhere from two
    image = np.zeros((12, 16, 3), np.uint8)
    figure = pictures.compare(image, made, NAMES)
    wanted = [[made[name][y, x] != made['one'][y, x] for name in made]
              for y, x in np.ndindex(12, 16)]
    share = 100 * np.mean([any(each) for each in wanted])
    assert f'{share:.1f} % of the pixels' in words(figure)
    assert len(pictures_in(figure)) == 5 and {*made} <= set(words(figure))
    check_legible(figure)
    figure = pictures.compare(image, made, NAMES, truth)
    wrong = np.where(truth < 3, truth != made['three'], 2).astype(int)
    assert np.array_equal(pictures_in(figure)[7], WRONG[wrong])
    check_legible(figure)


def test_compare_refuses():
    truth, made = maps()
    with pytest.raises(ValueError, match=r'of one size, got shapes \[\(12, 16\), \(12, 16\), \(3'):
        pictures.compare(np.zeros((12, 16, 3)), made, NAMES, truth[:3])


@pytest.mark.parametrize('size', [(32, 32), (32, 128), (128, 32)])
def test_legible(size):
    """Many classes with long names, and flat and tall images."""
    _, image, seen = view(21, 10, size=size)
    check_legible(pictures.dominant(image, seen, MANY, title='long/' * 30))
    check_legible(pictures.entropy(image, seen))
    check_legible(pictures.parts(image, seen, MANY, 10))
    prediction = np.random.default_rng(0).integers(0, 21, size)
    check_legible(pictures.compare(image, {'a' * 90: prediction, 'b' * 90: prediction[::-1]},
                                   MANY, prediction))


@pytest.mark.parametrize('number, size, wanted', [
    (6, (1000, 1500), (2400, 2400)), (6, (1000, 400), (2000, 1200)), (1, (1000, 900), (1000, 900)),
    (5, (1000, 500), (2000, 1500)), (2, (1000, 1000), (2000, 1000))])
def test_contact_sheets_are_grids(tmp_path, number, size, wanted):
    """No strip of one column; every picture is there once, in its order, row by row."""
    shades = [20 + 30 * index for index in range(number)]
    paths = [tmp_path / f'{shade}.png' for shade in shades]
    for path, shade in zip(paths, shades):
        Image.new('RGB', size, (shade, shade, shade)).save(path)
    with Image.open(panels.contact_sheet(paths, tmp_path / 'sheet.png')) as sheet:
        assert sheet.size == wanted
        found = np.asarray(sheet)[10::20, 10::20, 0]
    order = [int(shade) for row in range(found.shape[0]) for shade in found[row]]
    assert list(dict.fromkeys(shade for shade in order if shade != 255)) == shades


def test_a_picture_says_what_it_shows(tmp_path):
    figure, _ = panels.grid(1, 1, (8, 8))
    path = panels.save(figure, tmp_path / 'a.png', 'What it is', 'straße, by work/iter_4')
    with Image.open(path) as image:
        assert image.text['Title'] == 'What it is'
        assert image.text['Description'] == 'straße, by work/iter_4'
