"""SemiTrainLoop: in which iterations it validates, and what it says to the data."""
from types import SimpleNamespace

import pytest
import tiny
from mmengine.hooks import Hook

from mmseg_esl.engine.loops.train_loop import SemiTrainLoop


class Validated(Hook):

    def __init__(self):
        self.found = []

    def before_val(self, runner):
        self.found.append(runner.iter)


@pytest.fixture
def data(tmp_path):
    tiny.write_data(tmp_path / 'data')
    return tmp_path / 'data'


@pytest.mark.parametrize('begin, wanted', [(1, [2, 4, 5]), (4, [4, 5])])
def test_when_it_validates(tmp_path, data, begin, wanted):
    """Every so often from an iteration on, and after the last one."""
    seen = Validated()
    kwargs = dict(model=tiny.method_cfg('Supervised'), val=True, save_every=2, train_cfg=dict(
        type='SemiTrainLoop', max_iters=5, val_interval=2, val_begin=begin))
    tiny.run(tmp_path, data, [dict(type='StepHook'), seen], **kwargs)
    assert seen.found == wanted
    again = Validated()  # without RunStateHook nobody knows that the second was validated
    tiny.run(tmp_path / 'again', data, [dict(type='StepHook'), again], resume=True,
             load_from=str(tmp_path / 'work/iter_2.pth'), **kwargs)
    assert again.found == [i for i in wanted if i > 2]


@pytest.mark.parametrize('each', [False, True])
def test_the_seed_of_a_run_is_that_of_its_images(tmp_path, data, each):
    """But where the ranks are to draw alone: then nobody has said which."""
    runner = tiny.runner(tmp_path / 'work', data, [], model=tiny.method_cfg('Supervised'),
                         train_cfg=dict(type='SemiTrainLoop', max_iters=2),
                         randomness=dict(seed=7, diff_rank_seed=each))
    assert (runner.train_loop.dataloader.batch_sampler.seed == 7) is not each


def test_the_value_that_a_head_ignores_is_no_label_without_a_class(tmp_path, data):
    seg = tiny.segmentor()
    seg['decode_head']['ignore_index'] = 77
    runner = tiny.runner(tmp_path / 'work', data, [], train_cfg=dict(
        type='SemiTrainLoop', max_iters=2), model=tiny.method_cfg('Supervised', seg=seg))
    dataset = runner.train_loop.dataloader.dataset
    assert dataset.label_values.ignore_index == 77
    plain = SimpleNamespace(metainfo={})  # it checks no values
    loader = SimpleNamespace(dataset=plain, batch_sampler=SimpleNamespace(set_start=len))
    assert SemiTrainLoop(runner, loader, 2).dataloader is loader
