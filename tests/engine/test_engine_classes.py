"""Network and data that mean another number of classes, in one sentence."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from mmseg_esl.engine.classes import class_mismatch

FOUR = dict(classes=('road', 'sky', 'car', 'tree'))


@pytest.mark.parametrize('metainfo, num_classes', [
    (None, None), ({}, None), (dict(classes=None), None), (FOUR, None), ({}, 4), (FOUR, 4)])
def test_nothing_is_wrong_or_known(metainfo, num_classes):
    for heads in ({'decode_head': 4, 'auxiliary_head': None}, {}, {'decode_head': None}):
        data = SimpleNamespace(metainfo=metainfo, num_classes=num_classes)
        assert class_mismatch(data, heads) == ''
    assert class_mismatch(SimpleNamespace(), {'decode_head': 4}) == ''


def test_which_head_and_what_follows():
    data = SimpleNamespace(metainfo=FOUR)
    heads = {'decode_head': 4, 'auxiliary_head': 3, 'other': 19}
    assert class_mismatch(data, heads) == (
        'the labelled set has 4 classes (road, sky, car, tree), auxiliary_head.num_classes is 3: '
        'a label beyond the head would end the training')
    assert class_mismatch(data, {'decode_head': 19}, 'validation') == (
        'the validation set has 4 classes (road, sky, car, tree), decode_head.num_classes is 19: '
        'the head would learn classes that do not exist')


def test_five_names_are_shown():
    for count, shown in ((5, 'c0, c1, c2, c3, c4)'), (6, 'c0, c1, c2, c3, c4, ...)')):
        data = SimpleNamespace(metainfo=dict(classes=[f'c{i}' for i in range(count)]))
        assert f'has {count} classes ({shown}, ' in class_mismatch(data, {'decode_head': 2})


def test_a_set_s_own_number_counts():
    """A SemiDataset's, which knows it without names or with a background that is left out."""
    data = SimpleNamespace(metainfo=FOUR, num_classes=5)
    assert class_mismatch(data, {'decode_head': 5}) == ''
    assert 'has 5 classes (road, ' in class_mismatch(data, {'decode_head': 4})
