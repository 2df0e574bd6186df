"""When a training by iterations validates, and what it draws."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
from mmengine.hooks import Hook

from mmseg_esl.engine.loops.train_loop import SemiTrainLoop


class Seen(Hook):
    """Iterations done when a validation begins, and the images of each step."""

    def __init__(self):
        self.validated, self.images, self.calls = [], [], []

    def before_train(self, runner):
        self.calls.append('before_train')

    def before_train_epoch(self, runner):
        self.calls.append('before_train_epoch')

    def after_train_epoch(self, runner):
        self.calls.append('after_train_epoch')

    def after_train(self, runner):
        self.calls.append('after_train')

    def before_val(self, runner):
        self.validated.append(runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert runner.model.training
        self.images.append([sample.img_path for sample in data_batch['data_samples']])


def train(folder, data, **changes):
    seen = Seen()
    loop = dict(type='SemiTrainLoop', max_iters=7, **changes.pop('loop', {}))
    tiny.run(folder, data, [dict(type='StepHook'), seen], train_cfg=loop, val=True,
             model=tiny.method_cfg('Supervised'), **changes)
    return seen


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    tiny.write_data(folder, labeled=6, unlabeled=6)
    return folder


@pytest.mark.parametrize('loop, wanted', [
    (dict(val_interval=3), [3, 6, 7]),
    (dict(val_interval=7), [7]),
    (dict(val_interval=100), [7]),  # the last one is never left out
    (dict(val_interval=2, val_begin=4), [4, 6, 7]),
    (dict(val_interval=2, val_begin=5), [6, 7]),
    # as mmengine's loop, which asks for the interval of the iteration to come
    (dict(val_interval=3, dynamic_intervals=[(5, 1)]), [3, 4, 5, 6, 7])])
def test_it_validates_when_it_is_due(data, tmp_path, loop, wanted):
    seen = train(tmp_path, data, loop=loop)
    assert seen.validated == wanted and len(seen.images) == 7
    assert seen.calls == ['before_train', 'before_train_epoch', 'after_train_epoch', 'after_train']


def test_the_run_s_seed_draws_the_images(data, tmp_path):
    """The same seed the same images; another one others."""
    found = [train(tmp_path / str(number), data, randomness=dict(seed=seed)).images
             for number, seed in enumerate((0, 0, 1))]
    assert found[0] == found[1] != found[2]
    once = [name for step in found[0][:3] for name in step]
    assert len(set(once)) == len(once)  # none comes again before all have been there


def test_a_resumed_run_goes_on_validating(data, tmp_path):
    kwargs = dict(model=tiny.method_cfg('Supervised'), val=True, save_every=2, train_cfg=dict(
        type='SemiTrainLoop', max_iters=5, val_interval=2))
    tiny.run(tmp_path, data, [dict(type='StepHook')], **kwargs)
    again = Seen()  # without RunStateHook nobody knows that the second was validated
    tiny.run(tmp_path / 'again', data, [dict(type='StepHook'), again], resume=True,
             load_from=str(tmp_path / 'work/iter_2.pth'), **kwargs)
    assert again.validated == [4, 5]


@pytest.mark.parametrize('each', [False, True])
def test_the_seed_of_a_run_is_that_of_its_images(data, tmp_path, each):
    """But where the ranks are to draw alone: then nobody has said which."""
    runner = tiny.runner(tmp_path / 'work', data, [], model=tiny.method_cfg('Supervised'),
                         train_cfg=dict(type='SemiTrainLoop', max_iters=2),
                         randomness=dict(seed=7, diff_rank_seed=each))
    assert (runner.train_loop.dataloader.batch_sampler.seed == 7) is not each


def test_the_value_that_a_head_ignores_is_no_label_without_a_class(data, tmp_path):
    seg = tiny.segmentor()
    seg['decode_head']['ignore_index'] = 77
    runner = tiny.runner(tmp_path / 'work', data, [], train_cfg=dict(
        type='SemiTrainLoop', max_iters=2), model=tiny.method_cfg('Supervised', seg=seg))
    dataset = runner.train_loop.dataloader.dataset
    assert dataset.label_values.ignore_index == 77
    plain = SimpleNamespace(metainfo={})  # it checks no values
    loader = SimpleNamespace(dataset=plain, batch_sampler=SimpleNamespace(set_start=len))
    assert SemiTrainLoop(runner, loader, 2).dataloader is loader
