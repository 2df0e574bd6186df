"""A training that keeps one checkpoint replaces it while others look for the newest."""
import argparse
import shutil
import sys
from pathlib import Path

import pytest
import torch

from mmseg_esl import predict
from mmseg_esl.storage import resumable

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def work(tmp_path):
    torch.save(dict(meta={}, state_dict={}, message_hub={}), tmp_path / 'iter_1.pth')
    (tmp_path / 'config.py').write_text(
        "default_hooks = dict(checkpoint=dict(type='SemiCheckpointHook', by_epoch=False))")
    return tmp_path


def replacing(work, function, times):
    """The function; before each of its first calls the training goes on by a checkpoint."""
    def call(*args):
        nonlocal times
        if times:
            times -= 1
            newest, = work.glob('iter_*.pth')
            shutil.move(newest, work / f'iter_{int(newest.stem[5:]) + 1}.pth')
        return function(*args)
    return call


def test_while_it_is_looked_for(work, monkeypatch):
    stock = resumable.why_unreadable
    monkeypatch.setattr(resumable, 'why_unreadable', replacing(work, stock, 3))
    said = []
    found = resumable.newest_readable(work, work, 'iter_{}.pth', said.append)
    assert (found, said) == (str(work / 'iter_4.pth'), [])
    monkeypatch.setattr(resumable, 'why_unreadable', replacing(work, stock, 1000))
    with pytest.raises(RuntimeError, match='replaced before they can be read'):
        resumable.newest_readable(work, work, 'iter_{}.pth', said.append)


def test_after_predict_has_found_it(work, monkeypatch):
    def load(config, checkpoint, *_):
        if not Path(checkpoint).exists():
            raise FileNotFoundError(checkpoint)
        return 'the segmentor'

    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.delitem(sys.modules, 'predict', raising=False)
    tool = __import__('predict')
    monkeypatch.setattr(predict, 'load_segmentor', replacing(work, load, 2))
    args = argparse.Namespace(model=[str(work)], network=None, cfg_options=None)
    assert tool.load_model(args, 'cpu', print) == (str(work / 'iter_3.pth'), 'the segmentor')
    args.model = [str(work / 'config.py'), str(work / 'gone.pth')]
    with pytest.raises(FileNotFoundError, match='gone'):
        tool.load_model(args, 'cpu', print)
    monkeypatch.delitem(sys.modules, 'predict')
