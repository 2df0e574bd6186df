"""SIGTERM while networks are validated: left at once where a resumed run validates anew."""
import os
import signal

import pytest
import tiny
from mmengine.hooks import Hook


class Ask(Hook):
    """SIGTERM to this process as the second network's first image comes."""
    priority = 'VERY_HIGH'

    def __init__(self):
        self.images = 0

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.images += 1
        if self.images == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def train(tmp_path, ask=None, interval=2, **changes):
    hooks = [tiny.EMA, tiny.PARTS, dict(type='RunStateHook'), *([ask] if ask else [])]
    saves = dict(type='SemiCheckpointHook', by_epoch=False, interval=interval, save_last=False)
    with tiny.quiet():
        made = tiny.runner(
            tmp_path / 'work', tmp_path / 'data', hooks, val=True,
            train_cfg=dict(type='SemiTrainLoop', max_iters=4, val_interval=2),
            default_hooks=dict(checkpoint=saves), **changes)
        made.train()
    return made


def said(tmp_path) -> str:
    return ''.join(path.read_text() for path in tmp_path.glob('work/*/*.log'))


def test_a_saved_iteration_is_validated_when_resumed(tmp_path):
    tiny.write_data(tmp_path / 'data')
    ask = Ask()
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, ask)
    assert ended.value.code == 128 + signal.SIGTERM
    assert ask.images == 4  # of three images for each of two networks
    assert 'stopped in the validation of iteration 2, which is saved' in said(tmp_path)
    again = Ask()
    again.images = 10  # it asks no more
    assert train(tmp_path, again, resume=True).iter == 4
    assert again.images == 10 + 12  # after iterations 2 and 4


def test_else_it_is_finished_and_so_is_one_more_iteration(tmp_path):
    tiny.write_data(tmp_path / 'data')
    ask = Ask()
    with pytest.raises(SystemExit):
        train(tmp_path, ask, interval=100)
    assert ask.images == 6 and (tmp_path / 'work/iter_3.pth').is_file()
    text = said(tmp_path)
    assert text.count('the validation of all networks and one more iteration are finished') == 1
    assert 'stopped after iteration 3' in text
