"""Drawn partitions: nested, of the right size, with every class, the same everywhere."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_esl.splits.generate import (
    _covering,
    _draw,
    absent_classes,
    nested_partitions,
    partition_size,
)

SHARES = ['1/16', '1/8', '1/4', '1/2']


def collection(images=200, classes=12, seed=0):
    """Images with a few common classes and a few rare ones."""
    rng = np.random.default_rng(seed)
    often = np.linspace(0.9, 0.01, classes)
    held = rng.random((images, classes)) < often
    held[rng.integers(images, size=classes), np.arange(classes)] = True
    return {f'street/{i:04d}': np.flatnonzero(row).tolist() for i, row in enumerate(held)}


@pytest.mark.parametrize('seed', range(5))
def test_nested_covering_and_of_the_size(seed):
    classes = collection(seed=seed)
    parts = nested_partitions(classes, SHARES, seed)
    for share, ids in parts.items():
        assert len(ids) == len(set(ids)) == math.ceil(200 / int(share[2:]))
        assert ids == sorted(ids)
        assert {c for i in ids for c in classes[i]} == set(range(12))
    for small, large in zip(SHARES, SHARES[1:]):
        assert set(parts[small]) < set(parts[large])


def test_seed_and_nothing_else_decides():
    classes = collection()
    first = nested_partitions(classes, SHARES, 1)
    backwards = {name: set(classes[name]) for name in reversed(list(classes))}
    assert nested_partitions(backwards, SHARES[::-1], 1) == first
    assert nested_partitions(classes, SHARES, 2) != first
    # in another process, with another hash seed
    code = ('from mmseg_esl.splits.generate import nested_partitions as n; '
            f'print(n({classes!r}, {SHARES!r}, 1) == {first!r})')
    for value in '12':
        out = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True,
                             env={'PYTHONHASHSEED': value, 'PYTHONPATH': ':'.join(sys.path)})
        assert out.stdout == 'True\n', out.stderr


def test_draw_is_fixed():
    """As ``for c in a b c ...; do printf 0:$c | sha256sum; done | sort`` begins: a change of the
    algorithm would silently change everyone's lists."""
    classes = {name: [0] for name in 'abcdefghij'}
    assert nested_partitions(classes, ['3'], 0) == {'3': ['f', 'g', 'h']}


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text('abc/', min_size=1, max_size=6),
                       st.sets(st.integers(0, 6), max_size=4), min_size=1, max_size=12),
       st.integers(0, 3), st.data())
def test_any_collection(classes, seed, data):
    size = data.draw(st.integers(1, len(classes)))
    ids = nested_partitions(classes, [str(size), str(len(classes))], seed)[str(size)]
    assert len(ids) == size and set(ids) <= set(classes)
    absent = absent_classes(classes, ids)
    naive = {c for held in classes.values() for c in held}
    for name in ids:
        naive -= set(classes[name])
    assert set(absent) == naive
    # a class per image at least is gained while one is missing
    assert not absent or len({c for i in ids for c in classes[i]}) >= size


def test_few_images_take_what_covers_most():
    classes = {f'one{c}': [c] for c in range(6)}
    classes.update(most=[0, 1, 2, 3], rest=[4, 5])
    for seed in range(8):
        assert nested_partitions(classes, ['2'], seed)['2'] == ['most', 'rest']
    assert absent_classes(classes, ['most']) == [4, 5]


def test_of_images_that_cover_as_much_the_draw_decides():
    """Two classes each, where there is room for one image: the first of the drawn order."""
    classes = {f'{c}{i}': [c, c + 1] for c in (0, 2) for i in range(6)}
    for seed in range(8):
        first = min(classes, key=lambda n: hashlib.sha256(f'{seed}:{n}'.encode()).digest())
        assert nested_partitions(classes, ['1'], seed) == {'1': [first]}


def test_no_bias_to_crowded_images():
    """With room enough, an image is drawn as often as another that holds the same rare class."""
    classes = {f'x{i:03d}': [0] for i in range(100)}
    classes.update(rare_alone=[1], rare_crowded=[0, 1], third=[2])
    drawn = [nested_partitions(classes, ['20'], seed)['20'] for seed in range(400)]
    alone = sum('rare_alone' in ids for ids in drawn)
    crowded = sum('rare_crowded' in ids for ids in drawn)
    assert abs(alone - crowded) < 60  # three standard deviations


@pytest.mark.parametrize('share, wanted', [('1/16', 662), ('1/8', 1323), ('1/4', 2646),
                                           ('1/2', 5291), ('92', 92), ('1/1', 10582)])
def test_sizes_are_those_of_the_papers(share, wanted):
    assert partition_size(10582, share) == wanted


@pytest.mark.parametrize('share', ['0', '10583', '3/2', '1/0', 'a', '-1/4', '0.5', ''])
def test_impossible_shares(share):
    with pytest.raises(ValueError, match='give a fraction'):
        partition_size(10582, share)
    with pytest.raises(ValueError, match='no image'):
        nested_partitions({}, ['1/2'])


def test_needs_neither_torch_nor_mm():
    code = ('import sys; sys.path.insert(0, sys.argv[1]); import mmseg_esl.splits.verify, '
            'mmseg_esl.splits.generate; '
            'assert not {"torch", "numpy", "mmengine", "mmseg"} & set(sys.modules)')
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, '-c', code, str(root)], check=True)


def test_rare_classes_choose_first():
    """Their images bring the common classes along: fewer images are chosen for their classes."""
    classes = {f'common{i}': frozenset([0]) for i in range(30)}
    classes.update(rare=frozenset([0, 1]), rarer=frozenset([0, 2]))
    for seed in range(20):
        assert sorted(_covering(classes, sorted(classes, key=lambda n: _draw(seed, n)))) == [
            'rare', 'rarer']
