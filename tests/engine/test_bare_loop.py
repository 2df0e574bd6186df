"""The bare loop beside a real run: the same weights, and whose time is whose."""
import copy
import time
from pathlib import Path

import pytest
import tiny
import torch
from bench import bare_loop
from mmengine.hooks import Hook
from mmengine.runner import Runner

SLEEP = 0.02
CONFIG = Path(__file__).parents[2] / 'configs/esl/esl_lite0_camvid_1-16.py'


class Sleeper(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(SLEEP)


@pytest.fixture(scope='module')
def side(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bare')
    tiny.write_data(folder / 'data')
    with tiny.quiet():
        cfg = tiny.runner_cfg(folder / 'work', folder / 'data',
                              [tiny.EMA, tiny.PARTS, Sleeper()], max_iters=6)
        runner = Runner(**copy.deepcopy(cfg))
        runner.cfg.update({key: cfg[key] for key in ('optim_wrapper', 'train_dataloader')})
        side = bare_loop.SideBySide(runner, block=2)
        weights = []
        end = side._end_block

        def end_block():
            end()
            weights.append([p.clone() for net in (runner.model, side.bare.model)
                            for p in net.student.parameters()])

        side._end_block = end_block
        runner.train()
    return side, weights


def test_whose_time_is_whose(side):
    rows = side[0].rows
    assert len(rows) == 2  # of three blocks the first does not count
    for row in rows:
        assert row['hooks'] > SLEEP and row['loader'] > 0 and row['bare'] > 0
        assert row['whole'] > row['hooks'] + row['loader']
    text = bare_loop.table(rows, save=0.5, every=100)
    assert text.count('\n') == 8 and '| a checkpoint each 100 | 5.0 |' in text


def test_a_table_says_what_blocks_vary_by():
    rows = [dict(whole=whole, bare=1.0, loader=0.1, hooks=0.05)
            for whole in (1.5, 1.01, 1.03, 1.02, 1.04)]
    text = bare_loop.table(rows, save=0.5, every=100)
    assert '| train.py | 1030.0 | 1.030 |' in text
    assert text.endswith('of half of the blocks: 1.020 to 1.040')


def test_the_loop_trains_its_own_copy(side):
    side, weights = side
    assert side.bare.number == 6 and side.runner.iter == 6
    half = len(weights[0]) // 2
    for before, after in zip(weights, weights[1:]):
        for which in (slice(None, half), slice(half, None)):
            assert any(not torch.equal(a, b) for a, b in zip(before[which], after[which]))


def test_prepared_for_iterations_alone():
    cfg, every = bare_loop.prepare(str(CONFIG), 'somewhere', 7,
                                   {'train_dataloader.num_workers': 0})
    assert every == 1500 and cfg.train_cfg.max_iters == 7 and 'val_cfg' not in cfg
    assert cfg.train_dataloader.num_workers == 0
    assert cfg.train_dataloader.dataset.labeled.data_root.endswith('/somewhere')
    assert cfg.model.semi_train_cfg.warmup_iters == 0
    assert not cfg.model.segmentor.backbone.pretrained


def test_what_begins_after_a_warm_up_is_measured_too():
    """The demo's parts are found after 400 iterations; weights of others are not asked for."""
    cfg, _ = bare_loop.prepare(str(CONFIG.parent / 'demo/esl.py'), None, 7, None)
    assert cfg.default_hooks.parts.begin == 0
    cfg, _ = bare_loop.prepare(str(CONFIG.parent / 'esl_r50_voc-classic_1-16.py'), None, 7, None)
    assert cfg.model.segmentor.pretrained is None
