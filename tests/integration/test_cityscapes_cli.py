"""The Cityscapes config as it stands, made small from the command line alone, on CPU processes.

What a user types, DATA written by ``python tests/integration/cityscapes_folder.py DATA``::

    tools/dist_train.sh configs/esl/esl_r50_cityscapes_1-4.py 2 --work-dir WORK --cfg-options \\
        train_dataloader.dataset.labeled.data_root=DATA ... (every option stands in OPTIONS)
    tools/dist_test.sh configs/esl/esl_r50_cityscapes_1-4.py WORK/iter_4.pth 2 --cfg-options ...
"""
import math
import os
import sys
from functools import partial
from pathlib import Path

import forked
import mmseg
import pytest
import torch
from cityscapes_folder import COLOURS, write_cityscapes
from commands import ROOT, TOOLS, inside, logged, metrics_of, run

CONFIG = 'configs/esl/esl_r50_cityscapes_1-4.py'
STOCK_TEST = Path(mmseg.__path__[0]) / '.mim/tools/test.py'
OPTIONS = """
    train_dataloader.dataset.labeled.data_root=DATA
    train_dataloader.dataset.unlabeled.data_root=DATA
    val_dataloader.dataset.data_root=DATA
    test_dataloader.dataset.data_root=DATA
    train_dataloader.dataset.labeled.pipeline.2.scale=(96,48)
    train_dataloader.dataset.unlabeled.pipeline.2.scale=(96,48)
    train_dataloader.dataset.labeled.pipeline.3.crop_size=(64,64)
    train_dataloader.dataset.unlabeled.pipeline.3.crop_size=(64,64)
    train_dataloader.batch_size=8 train_dataloader.batch_sampler.total_labeled=4
    train_dataloader.batch_sampler.total_unlabeled=4
    train_dataloader.num_workers=0 train_dataloader.persistent_workers=False
    val_dataloader.num_workers=0 val_dataloader.persistent_workers=False
    test_dataloader.num_workers=0 test_dataloader.persistent_workers=False
    model.segmentor.data_preprocessor.size=(64,64)
    model.segmentor.test_cfg.crop_size=(48,64) model.segmentor.test_cfg.stride=(32,32)
    model.segmentor.pretrained=None model.segmentor.backbone.depth=18
    model.segmentor.decode_head.in_channels=512 model.segmentor.decode_head.c1_in_channels=64
    model.segmentor.decode_head.channels=32 model.segmentor.auxiliary_head.in_channels=256
    model.projector.channels=32
    train_cfg.max_iters=4 train_cfg.val_interval=4 param_scheduler.0.end=8
    default_hooks.checkpoint.interval=4 default_hooks.logger.interval=1
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Two processes train four iterations; gives options, work folder and output.

    They begin as those of dist_train.sh, which test_interrupted.py starts.
    """
    folder = tmp_path_factory.mktemp('cityscapes')
    options = OPTIONS.replace('DATA', str(write_cityscapes(folder / 'data'))).split()
    work = folder / 'work'
    output = forked.on_ranks(forked.run_script, TOOLS / 'train.py', [
        CONFIG, '--launcher', 'pytorch', '--work-dir', work, '--cfg-options', *options,
        'default_hooks.dump.type=dump_hook.DumpStateHook',
        f'default_hooks.dump.folder={folder / "state"}'], ROOT)
    return options, work, output


def test_training_logs_finite_losses(trained):
    steps = [entry for entry in logged(trained[1]) if 'loss' in entry]
    assert [entry['iter'] for entry in steps] == [1, 2, 3, 4]
    for key in ('loss', 'decode.loss_ce', 'loss_sce', 'loss_ctr'):
        assert all(math.isfinite(entry[key]) for entry in steps), key
    assert not any('aux' in key for key in steps[0])  # the paper has no auxiliary loss
    for entry in steps:
        parts = entry['decode.loss_ce'] + entry['loss_sce'] + entry['loss_ctr']
        assert entry['loss'] == pytest.approx(parts, rel=1e-5)
    assert steps[-1]['loss_sce'] > 0 and steps[-1]['loss_ctr'] > 0


def test_both_networks_are_validated_and_saved(trained):
    options, work, output = trained
    last = [entry for entry in logged(work) if 'teacher/mIoU' in entry][-1]
    assert 0 < last['teacher/mIoU'] <= 100 and 0 < last['student/mIoU'] <= 100
    assert (work / 'iter_4.pth').is_file()
    assert (work / 'best_teacher_mIoU_iter_4.pth').is_file()
    assert output.count('clustering encoder features') == 1  # said by rank 0, before training only


def test_ranks_hold_the_same_bits(trained):
    """Parameters, batch norm statistics, prototypes, queues: before and after training."""
    folder = trained[1].parent / 'state'
    for when in ('begin', 'end'):
        first, second = (torch.load(folder / f'{when}_rank{rank}.pth') for rank in (0, 1))
        assert list(first) == list(second)
        assert not [key for key in first if not torch.equal(first[key], second[key])]
    begin = torch.load(folder / 'begin_rank0.pth')
    assert first['ema_steps'] == 4 and first['part_memory.pushed'].sum() > 0
    moved = 'teacher.backbone.layer1.0.conv1.weight'
    assert not torch.equal(begin[moved], first[moved])


def test_every_way_of_testing_gives_the_same(trained):
    """Two processes, one process, mmseg's own tools/test.py on the config and on the dumped one."""
    options, work, _ = trained
    # after so few iterations all is road: a classifier drawn at random makes the results telling
    checkpoint = torch.load(work / 'iter_4.pth', weights_only=False)
    state, drawn = checkpoint['state_dict'], torch.Generator().manual_seed(0)
    state['teacher.decode_head.conv_seg.weight'].normal_(generator=drawn)
    state['teacher.decode_head.conv_seg.bias'].fill_(-1e4)[list(COLOURS)] = 0
    path = work / 'drawn.pth'
    torch.save(checkpoint, path)
    results = {
        'two': (TOOLS / 'dist_test.sh', CONFIG, path, 2, '--cfg-options', *options),
        'one': ('test.py', ROOT / CONFIG, path, '--cfg-options', *options),
        'stock': (sys.executable, STOCK_TEST, CONFIG, path, '--cfg-options', *options),
        # the one that training wrote, where processes talked to each other
        'dumped': (sys.executable, STOCK_TEST, work / Path(CONFIG).name, path,
                   '--cfg-options'),
    }
    for name, command in results.items():
        call = inside if name == 'one' else partial(run, PYTHONPATH=os.pathsep.join(
            [str(ROOT), str(Path(__file__).parent)]))
        call(*command, 'work_dir=' + str(work / name))
        metrics = metrics_of(work / name)
        results[name] = {key: metrics[key] for key in ('aAcc', 'mIoU', 'mAcc')}
    assert all(metrics == results['two'] for metrics in results.values()), results
    # and it is the teacher that was tested, with more than one class predicted
    last = [entry for entry in logged(work) if 'student/mIoU' in entry][-1]
    assert results['two']['aAcc'] != pytest.approx(last['student/aAcc'], abs=0.1)
    assert results['two']['mIoU'] > 0
