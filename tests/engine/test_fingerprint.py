"""Which differences between two starts of a run forbid to go on."""
from __future__ import annotations

import pytest

from mmseg_esl.engine.resume.fingerprint import compare

NOW = {'world size': 1, 'num_labeled': 4, 'num_unlabeled': 6, 'device': 'cpu', 'torch': '2.13.0',
       'train_cfg.max_iters': 300, 'optim_wrapper.optimizer.lr': '0.01',
       'model.part_memory.type': 'PartMemory'}


def changed(**values):
    return {**NOW, **{key.replace('__', '.'): value for key, value in values.items()}}


def test_nothing_has_changed():
    assert compare(NOW, dict(NOW)) == ([], [])


@pytest.mark.parametrize('key', ['device', 'torch', 'train_cfg.max_iters'])
def test_mentioned_alone(key):
    assert compare({**NOW, key: 'other'}, NOW) == ([], [f'{key}: other -> {NOW[key]}'])


def test_a_key_that_comes_or_goes():
    line = 'optim_wrapper.optimizer.momentum'
    assert compare(NOW, {**NOW, line: '0.9'}) == ([f'{line}: (not set) -> 0.9'], [])
    assert compare({**NOW, line: '0.9'}, NOW) == ([f'{line}: 0.9 -> (not set)'], [])


@pytest.mark.parametrize('ranks, labeled, unlabeled, fits', [
    (2, 2, 3, True), (2, 2, 6, False), (2, 4, 3, False), (4, 1, 1, False), (2, 4, 6, False)])
def test_other_ranks(ranks, labeled, unlabeled, fits):
    """They are harmless while a step has as many images of both kinds."""
    saved = changed(num_labeled=labeled, num_unlabeled=unlabeled)
    saved['world size'] = ranks
    fatal, mentioned = compare(saved, NOW)
    assert (not fatal) == fits and bool(mentioned) == fits
    assert f'world size: {ranks} -> 1' in fatal + mentioned


def of_release_0_1_0(**values):
    """As that release saved it: the average in a hook, the memory's sizes although defaults."""
    old = {key: value for key, value in NOW.items() if key != 'model.part_memory.type'}
    return {**old, 'TeacherEMAHook.type': 'TeacherEMAHook', 'model.part_memory.num_parts': 5,
            'model.part_memory.queue_length': 256, 'model.part_memory.momentum': '0.99',
            **{key.replace('__', '.'): value for key, value in values.items()}}


def test_release_0_1_0_with_its_defaults():
    assert compare(of_release_0_1_0(), NOW) == ([], [])
    assert compare(of_release_0_1_0(TeacherEMAHook__momentum='0.99'), NOW) == ([], [])
    without = {key: value for key, value in NOW.items() if key != 'model.part_memory.type'}
    saved = {key: value for key, value in of_release_0_1_0().items() if 'part_memory' not in key}
    assert compare(saved, without) == ([], [])


@pytest.mark.parametrize('key, name, value', [
    ('TeacherEMAHook__momentum', 'model.semi_train_cfg.ema_momentum', '0.9'),
    ('model__part_memory__num_parts', 'model.part_memory.num_parts', 3),
    ('model__part_memory__queue_length', 'model.part_memory.queue_length', 16),
    ('model__part_memory__momentum', 'model.part_memory.momentum', '0.9')])
def test_release_0_1_0_with_others(key, name, value):
    saved = of_release_0_1_0(**{key: value})
    assert compare(saved, NOW) == ([f'{name}: {value} -> (not set)'], [])
    assert compare(saved, {**NOW, name: value}) == ([], [])


def test_release_0_1_0_beside_a_written_default():
    """A default that today's config spells out is the one that was saved."""
    now = {**NOW, 'model.part_memory.num_parts': 5}
    assert compare(of_release_0_1_0(), now) == ([], [])
