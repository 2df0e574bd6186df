"""SIGTERM while networks are validated: left at once where a resumed run validates anew."""
import os
import signal

import pytest
import tiny
from mmengine.hooks import Hook

STATE = dict(type='RunStateHook')


class Ask(Hook):
    """SIGTERM to this process as an image comes; the fourth is the second network's first."""
    priority = 'VERY_HIGH'

    def __init__(self, at=4):
        self.at, self.images = at, 0

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.images += 1
        if self.images == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def train(tmp_path, ask, interval=2, state=(STATE, ), **changes):
    hooks = [tiny.EMA, tiny.PARTS, *state, ask]
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
    ask = Ask(at=5)
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, ask)
    assert ended.value.code == 128 + signal.SIGTERM
    assert ask.images == 5  # of three images for each of two networks
    assert 'stopped in the validation of iteration 2, which is saved' in said(tmp_path)
    again = Ask(at=None)
    assert train(tmp_path, again, resume=True).iter == 4
    assert again.images == 12  # after iterations 2 and 4


@pytest.mark.parametrize('changes', [dict(interval=100), dict(state=())])
def test_else_it_is_finished_and_so_is_one_more_iteration(tmp_path, changes):
    """It is not saved, or nobody knows that a resumed run has it to do."""
    tiny.write_data(tmp_path / 'data')
    ask = Ask()
    with pytest.raises(SystemExit):
        train(tmp_path, ask, **changes)
    assert ask.images == 6 and (tmp_path / 'work/iter_3.pth').is_file()
    text = said(tmp_path)
    assert text.count('the validation of all networks and one more iteration are finished') == 1
    assert 'stopped after iteration 3' in text
