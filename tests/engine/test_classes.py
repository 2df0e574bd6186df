"""What is said where the network and the data mean other classes."""
from types import SimpleNamespace

import pytest

from mmseg_esl.engine.classes import class_mismatch


@pytest.mark.parametrize('number, shown', [
    (5, 'c0, c1, c2, c3, c4'), (6, 'c0, c1, c2, c3, c4, ...'), (7, 'c0, c1, c2, c3, c4, ...')])
def test_the_first_names_are_shown(number, shown):
    names = SimpleNamespace(metainfo=dict(classes=[f'c{i}' for i in range(number)]))
    assert class_mismatch(names, dict(decode_head=9)).startswith(
        f'the labelled set has {number} classes ({shown}), decode_head.num_classes is 9: ')
    assert class_mismatch(names, dict(decode_head=number, odd=None)) == ''


def test_a_number_without_names():
    dataset = SimpleNamespace(num_classes=4, metainfo={})
    assert 'has 4 classes' in class_mismatch(dataset, dict(decode_head=3))
    assert class_mismatch(dataset, dict(decode_head=4)) == ''
    assert class_mismatch(SimpleNamespace(), dict(decode_head=4)) == ''  # nothing is known
