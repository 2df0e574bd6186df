"""What a checkpoint lacks of the run that is to go on from it, in words."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch

from mmseg_esl.engine.resume.completeness import missing_parts


def whole(model) -> dict:
    return dict(state_dict=dict(model.state_dict()), optimizer=dict(state={0: 1}),
                param_schedulers=[{}])


@pytest.fixture(scope='module')
def runner():
    return SimpleNamespace(model=tiny.esl(), param_schedulers=[object()])


def test_nothing(runner):
    checkpoint = whole(runner.model)
    assert missing_parts(runner, checkpoint) == []
    # without schedulers none need be there
    del checkpoint['param_schedulers']
    assert missing_parts(SimpleNamespace(model=runner.model, param_schedulers=[]), checkpoint) == []


def test_counts_that_nothing_reads_may_be_missing(runner):
    checkpoint = whole(runner.model)
    for key in list(checkpoint['state_dict']):
        if key.endswith('num_batches_tracked'):
            del checkpoint['state_dict'][key]
    assert missing_parts(runner, checkpoint) == []


@pytest.mark.parametrize('value', [None, {}])
def test_optimiser_and_schedulers(runner, value):
    checkpoint = whole(runner.model)
    checkpoint.update(optimizer=value, param_schedulers=value)
    first, second = missing_parts(runner, checkpoint)
    assert first.startswith('optimizer: not saved') and second == 'param_schedulers: not saved'


@pytest.mark.parametrize('count, more', [(1, ''), (3, ''), (4, ' and 1 more'), (5, ' and 2 more')])
def test_tensors_are_counted_and_three_are_named(runner, count, more):
    checkpoint = whole(runner.model)
    lost = [key for key in checkpoint['state_dict'] if key.endswith('weight')][:count]
    for key in lost[1:]:
        del checkpoint['state_dict'][key]
    checkpoint['state_dict'][lost[0]] = torch.zeros(1, 2, 3)  # there, but of another shape
    assert missing_parts(runner, checkpoint) == [
        f'{count} tensors of the model: not saved, or of another shape: '
        f'{", ".join(lost[:3])}{more}']


def test_weights_of_no_model(runner):
    every = [key for key in runner.model.state_dict()
             if not key.endswith(('num_batches_tracked', 'part_mask'))]
    for state in (None, {}):
        found, = missing_parts(runner, dict(whole(runner.model), state_dict=state))
        assert found.startswith(f'{len(every)} tensors of the model')
