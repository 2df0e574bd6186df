"""ESL's steps are those of release 0.1.0: figures that it wrote, see tests/recorded/."""
from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

RECORDED = Path(__file__).parents[1] / 'recorded'
spec = importlib.util.spec_from_file_location('esl_steps', RECORDED / 'esl_steps.py')
esl_steps = importlib.util.module_from_spec(spec)
spec.loader.exec_module(esl_steps)
OLD = json.loads((RECORDED / 'esl_steps.json').read_text())


def same_machine(recorded) -> bool:
    """Bits depend on the order of sums, which the processor's vectors and torch decide."""
    return recorded['machine'] == esl_steps.machine()


def terms(losses: dict) -> dict:
    """What it names otherwise now: a projector without a loss of its own in the warm-up."""
    losses = dict(losses)
    if 'loss_unused' in losses:
        losses['loss_ctr'] = losses.pop('loss_unused')
    return losses


@pytest.fixture
def threads():
    """One thread has the recorded bits on the recorded CPU. On another (AVX2 without AVX-512) its
    sums part from them by 1e-5 in three steps, enough to count ten pixels otherwise; those of two
    threads stay within 3e-7.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if same_machine(OLD) else 2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('name', esl_steps.SETTINGS)
def test_four_steps(name, monkeypatch, threads):
    # leaving anchors of nobody out, as is done on a CPU, adds in another order
    monkeypatch.setattr('mmseg_esl.functional.contrast.waits_for_reads', lambda device: True)
    old, new = OLD['steps'][name], esl_steps.trace(name)
    assert new['random'] == old['random'] and new['keys'] == old['keys']
    steps = [terms(step) for step in new['losses']]
    if same_machine(OLD):
        assert steps == old['losses']
        assert new['state'] == old['state']
    for mine, theirs in zip(steps, old['losses']):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert new['sums'] == pytest.approx(old['sums'], rel=1e-4)


def test_settings_differ():
    """Each setting changes something: none of them is silently left out."""
    states = {name: step['state'] for name, step in OLD['steps'].items()}
    alike = {('sup joint', 'sup separate')}  # nothing unlabelled in either
    for a in states:
        for b in states:
            if a < b and (a, b) not in alike:
                assert states[a] != states[b], (a, b)
