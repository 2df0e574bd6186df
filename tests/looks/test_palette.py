"""Colours: distinct, also to colour-blind eyes, and in an order that does not change."""
import numpy as np
import pytest

from mmseg_esl.looks.palette import (
    GREY,
    OKABE_ITO,
    PALE,
    TOL_MUTED,
    _views,
    class_colours,
    least_distance,
    paint,
    part_colours,
)


def names(count):
    return [f'c{i}' for i in range(count)]


def test_lab_of_known_colours():
    """Red, mid grey and white as in the tables of CIELAB (D65)."""
    lab = _views([(255, 0, 0), (119, 119, 119), (255, 255, 255)])[0]
    np.testing.assert_allclose(lab, [(53.24, 80.09, 67.20), (50.03, 0, 0), (100, 0, 0)], atol=0.1)


def test_red_and_green_are_near_for_the_colour_blind():
    red, olive = np.array([[200, 60, 0]]), np.array([[120, 120, 0]])
    normal = np.linalg.norm(_views(red)[0] - _views(olive)[0])
    assert least_distance(red, olive).item() < 0.5 * normal


@pytest.mark.parametrize('count', range(2, 12))
def test_up_to_ten_are_told_apart(count):
    colours = class_colours(['background', *names(count - 1)])
    apart = least_distance(colours, colours)[np.triu_indices(count, 1)]
    assert tuple(colours[0]) == (GREY if count < 9 else PALE) and apart.min() > 12


@pytest.mark.parametrize('count', [11, 19, 81, 150])
def test_many(count):
    colours = class_colours(names(count))
    assert colours.shape == (count, 3) and colours.dtype == np.uint8
    assert len(np.unique(colours, axis=0)) == count
    assert [tuple(c) for c in colours[:10]] == [*TOL_MUTED, PALE]
    assert np.array_equal(colours, class_colours(names(150))[:count])


def test_background_keeps_its_place():
    colours = class_colours(['road', 'Background', 'car'])
    assert [tuple(c) for c in colours] == [OKABE_ITO[0], GREY, OKABE_ITO[1]]


def test_the_data_sets_own():
    own = [[1, 2, 3], [4, 5, 6]]
    assert class_colours(names(2), own).tolist() == own
    with pytest.raises(ValueError, match=r'shape \(2, 3\), but there are 3 classes'):
        class_colours(names(3), own)


@pytest.mark.parametrize('parts', [2, 5, 10])
def test_shades_go_from_dark_to_light(parts):
    colours = class_colours(names(12))
    shades = part_colours(colours, parts).reshape(12, parts, 3).astype(float)
    assert (np.diff(shades.sum(axis=-1), axis=1) > 0).all()
    assert np.array_equal(part_colours(colours, 1), colours)


def test_paint():
    painted = paint(np.array([[0, 1], [2, -1]]), np.array([(1, 2, 3), (4, 5, 6)]), (9, 9, 9))
    assert painted.tolist() == [[[1, 2, 3], [4, 5, 6]], [[9, 9, 9], [9, 9, 9]]]
