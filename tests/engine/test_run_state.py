"""A run is resumed as what it was, or refused by name."""
import os
import shutil
import signal
import types

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_esl.engine.resume.completeness import missing_parts

RENAMED = ('ground', 'thing', 'air')
DATA = 'train_dataloader.dataset'


def build(root, work, **changes) -> Runner:
    scheduler = dict(type='PolyLR', power=0.9, end=4, by_epoch=False)
    cfg = Config(dict(
        model=tiny.esl_cfg(), work_dir=str(work), train_dataloader=tiny.loader_cfg(root),
        train_cfg=dict(type='SemiTrainLoop', max_iters=2, val_interval=100),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)),
        param_scheduler=[scheduler], default_scope='mmseg', randomness=dict(seed=0),
        custom_hooks=[tiny.EMA, tiny.PARTS, dict(type='RunStateHook')],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        log_processor=dict(by_epoch=False),
        experiment_name=str(work).replace('/', '_')))
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return Runner.from_cfg(cfg)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """(data, checkpoint) of a run of two iterations; and lists that differ a little."""
    folder = tmp_path_factory.mktemp('run')
    tiny.write_data(folder / 'data', labeled=3, unlabeled=4)
    (folder / 'data/unlabeled.txt').write_text('b0\nb1\nb2\n')
    (folder / 'data/more.txt').write_text('b0\nb1\nb2\nb3\n')
    (folder / 'data/turned.txt').write_text('a1\na0\na2\n')
    with tiny.quiet():
        build(folder / 'data', folder / 'work').train()
    return folder / 'data', folder / 'work/iter_2.pth'


def resume(saved, work, checkpoint=None, **changes) -> str:
    """Resume; gives what the log says. With nothing left to train, if it is the same run."""
    changes = {'resume': True, 'load_from': str(checkpoint or saved[1]), **changes}
    build(changes.pop('root', saved[0]), work, **changes).train()
    return ''.join(path.read_text() for path in work.glob('*/*.log'))


def test_a_finished_run_says_so_and_leaves_what_is_there(saved, tmp_path):
    before = saved[1].read_bytes()
    said = resume(saved, tmp_path)
    assert 'this run has ended: 2 of 2 iterations are done. Raise train_cfg.max_iters' in said
    assert saved[1].read_bytes() == before and not list(tmp_path.glob('iter_*'))
    # shorter than what is done already
    assert 'this run has ended: 2 of 1' in resume(saved, tmp_path / 'short', train_cfg__max_iters=1)


REFUSED = {
    'seed': (dict(randomness__seed=1), r'randomness\.seed: 0 -> 1'),
    'image added': ({f'{DATA}.unlabeled.ann_file': 'more.txt'},
                    r'unlabeled list: 3 images \(\w+\) -> 4 images'),
    'order of images': ({f'{DATA}.labeled.ann_file': 'turned.txt'},
                        r'  labeled list: 3 images \(\w+\) -> 3 images'),
    'K': (dict(model__part_memory__num_parts=3), r'model\.part_memory\.num_parts: 2 -> 3'),
    'queue': (dict(model__part_memory__queue_length=8), r'part_memory\.queue_length: 4 -> 8'),
    'classes': ({f'{DATA}.labeled.metainfo.classes': RENAMED},
                'classes: ground, thing, sky -> ground, thing, air'),
    'variant': (dict(model__semi_train_cfg__variant='dsl'),
                r'semi_train_cfg\.variant: \(not set\) -> dsl'),
    'weight': (dict(model__semi_train_cfg__sce_weight=0.5),
               r'semi_train_cfg\.sce_weight: \(not set\) -> 0\.5'),
    'batch': (dict(train_dataloader__batch_size=3, train_dataloader__batch_sampler__num_labeled=1),
              'num_labeled: 2 -> 1'),
    'augmentation': ({f'{DATA}.labeled.pipeline.2.prob': 0.1},
                     r'labeled\.pipeline\.2\.prob: 0\.5 -> 0\.1'),
    'optimiser': (dict(optim_wrapper__optimizer__lr=0.1), r'optimizer\.lr: 0\.05 -> 0\.1'),
    'schedule': (dict(train_cfg__max_iters=8, param_scheduler=[
        dict(type='PolyLR', power=0.9, end=8, by_epoch=False)]),
        r'param_scheduler\.0\.end: 4 -> 8'),
    'loss': (dict(model__segmentor__decode_head__loss_decode__avg_non_ignore=True),
             r'loss_decode\.avg_non_ignore: \(not set\) -> True'),
    'anything of the model': (dict(model__embedding='decode_head.bottleneck'),
                              r'model\.embedding: \(not set\) -> decode_head\.bottleneck'),
    'parts': (dict(model__part_memory__queue_length=5),
              r'model\.part_memory\.queue_length: 4 -> 5'),
    'teacher': ({'custom_hooks.0.momentum': 0.5},
                r'model\.semi_train_cfg\.ema_momentum: \(not set\) -> 0\.5'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused_by_name(saved, tmp_path, case):
    changes, message = REFUSED[case]
    with pytest.raises(RuntimeError, match=message) as error:
        resume(saved, tmp_path, **changes)
    assert 'Set these back' in str(error.value) and 'load_from' in str(error.value)


def test_allowed_in_silence(saved, tmp_path):
    """Folders, workers, logs, validation and start weights are no part of the training."""
    shutil.copytree(saved[0], tmp_path / 'moved')
    said = resume(saved, tmp_path / 'work', root=tmp_path / 'moved', **{
        'train_dataloader.num_workers': 1, 'default_hooks.logger.interval': 7,
        'default_hooks.checkpoint.interval': 50, 'train_cfg.val_interval': 50,
        'train_cfg.type': 'IterBasedTrainLoop', 'model.segmentor.pretrained': None})
    assert 'resumed epoch: 0, iter: 2' in said and 'with a change' not in said
    assert 'nothing is left to train' in said


def test_a_longer_run_is_mentioned(saved, tmp_path):
    said = resume(saved, tmp_path, train_cfg__max_iters=3)
    assert 'resuming with a change: train_cfg.max_iters: 2 -> 3' in said
    assert 'param_scheduler) stay as they were saved' in said and 'Iter(train) [3/3]' in said


def test_not_strict(saved, tmp_path):
    said = resume(saved, tmp_path, train_cfg__max_iters=3, randomness__seed=7,
                  optim_wrapper__optimizer__lr=0.1, **{'custom_hooks.2.strict': False})
    assert 'WARNING' in said and 'optimizer.lr: 0.05 -> 0.1' in said
    assert 'randomness.seed: 0 -> 7' in said and 'Iter(train) [3/3]' in said
    state = torch.load(tmp_path / 'iter_3.pth', weights_only=False)['run_state']
    assert state['seed'] == state['streams']['seed'] == 0  # the saved one holds


def edited(saved, path, change):
    checkpoint = torch.load(saved[1], weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize('number, more', [(12, ''), (14, '\n  and 2 more')])
def test_many_changes(saved, tmp_path, number, more):
    """The first dozen is named."""
    path = edited(saved, tmp_path / 'other.pth', lambda checkpoint: checkpoint['run_state'][
        'fingerprint'].update({f'model.key{i:02d}': 1 for i in range(number)}))
    with pytest.raises(RuntimeError, match='not the run that the checkpoint holds') as error:
        resume(saved, tmp_path / 'work', path)
    assert str(error.value).count('model.key') == 12
    assert (f'model.key11: 1 -> (not set){more}\nSet these back') in str(error.value)


def test_a_position_that_was_not_saved(saved, tmp_path):
    """By a run whose sampler had none: this one's goes on by its own count."""
    path = edited(saved, tmp_path / 'plain.pth',
                  lambda checkpoint: checkpoint['run_state'].update(streams=None))
    resume(saved, tmp_path / 'work', path, train_cfg__max_iters=3)
    assert state_of(tmp_path / 'work/iter_3.pth')['streams']['labeled'] == 6


def state_of(path):
    return torch.load(path, weights_only=False)['run_state']


@pytest.mark.parametrize('lost, shown', [(3, 'a, b, c'), (4, 'a, b, c and 1 more')])
def test_what_is_lost_is_named(lost, shown):
    model = torch.nn.Module()
    for name in 'abcd'[:lost]:
        model.register_buffer(name, torch.zeros(2))
    runner = types.SimpleNamespace(model=model, param_schedulers=[])
    checkpoint = dict(optimizer=dict(state={}), state_dict=dict(e=torch.zeros(2)))
    assert missing_parts(runner, checkpoint) == [
        f'{lost} tensors of the model: not saved, or of another shape: {shown}']
    checkpoint['state_dict'] = model.state_dict()
    assert missing_parts(runner, checkpoint) == []


def test_world_size(saved, tmp_path):
    """A run of two ranks goes on on one if that takes as many images a step, and not otherwise."""
    def two_ranks(labeled):
        def change(checkpoint):
            state = checkpoint['run_state']
            state['ranks'] *= 2
            state['fingerprint'].update(
                {'world size': 2, 'num_labeled': labeled, 'num_unlabeled': 1})
        return edited(saved, tmp_path / f'{labeled}.pth', change)

    said = resume(saved, tmp_path / 'work', two_ranks(1), train_cfg__max_iters=3)
    assert 'resuming with a change: world size: 2 -> 1' in said
    assert 'num_labeled: 1 -> 2' in said and 'Iter(train) [3/3]' in said
    assert 'saved by 2 processes, resumed by 1: random numbers begin anew' in said
    streams = torch.load(tmp_path / 'work/iter_3.pth', weights_only=False)['run_state']['streams']
    assert (streams['labeled'], streams['unlabeled']) == (6, 6)
    with pytest.raises(RuntimeError, match='world size: 2 -> 1'):
        resume(saved, tmp_path / 'refused', two_ranks(2))


LOST = {
    'optimizer': (lambda c: c.pop('optimizer'), 'optimizer: not saved'),
    'schedulers': (lambda c: c.pop('param_schedulers'), 'param_schedulers: not saved'),
    'memory': (lambda c: [c['state_dict'].pop(k) for k in list(c['state_dict'])
                          if k.startswith('part_memory.')], 'tensors.*part_memory.prototypes'),
    'one network': (lambda c: c.update(state_dict={
        k[len('student.'):]: v for k, v in c['state_dict'].items() if k.startswith('student.')}),
        'tensors of the model'),
    'shape': (lambda c: c['state_dict'].update({'part_memory.queue': torch.zeros(3)}),
              'part_memory.queue'),
}


@pytest.mark.parametrize('case', LOST)
def test_an_incomplete_checkpoint(saved, tmp_path, case):
    """It is refused by the name of what it lacks; one may go on all the same, as the log says."""
    change, message = LOST[case]
    path = edited(saved, tmp_path / 'part.pth', change)
    with pytest.raises(RuntimeError, match=f'(?s)does not hold all.*{message}.*strict=False'):
        resume(saved, tmp_path / 'work', path)
    if case in ('optimizer', 'memory'):
        said = resume(saved, tmp_path / 'loose', path, train_cfg__max_iters=3,
                      **{'custom_hooks.2.strict': False})
        assert 'does not hold all' in said and 'Iter(train) [3/3]' in said


def test_an_older_checkpoint(saved, tmp_path):
    old = edited(saved, tmp_path / 'old.pth', lambda checkpoint: checkpoint.pop('run_state'))
    said = resume(saved, tmp_path / 'work', old, train_cfg__max_iters=3)
    assert 'the checkpoint holds no run state' in said and 'Iter(train) [3/3]' in said


class Terminate(Hook):
    """Sends SIGTERM in the second batch of the first validation."""

    def __init__(self):
        self.batches = 0

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.batches += 1
        if self.batches == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize('interval', [1, 100])
def test_a_validation_is_left_where_it_comes_again(saved, tmp_path, interval):
    """Its iteration is saved: the resumed run validates first. Else it is finished."""
    def run(terminate, **changes):
        with tiny.quiet():
            runner = tiny.runner(
                tmp_path / 'work', saved[0], [tiny.EMA, dict(type='RunStateHook'), terminate],
                model=tiny.esl_cfg('dsl'), val=True, train_cfg=dict(
                    type='SemiTrainLoop', max_iters=2, val_interval=1),
                default_hooks=dict(checkpoint=dict(type='SemiCheckpointHook', by_epoch=False,
                                                   interval=interval)), **changes)
            runner.train()
        return terminate.batches

    stopped = Terminate()
    with pytest.raises(SystemExit) as end:
        run(stopped)
    assert end.value.code == 128 + signal.SIGTERM
    assert stopped.batches == (2 if interval == 1 else 6)  # of 3 images and 2 networks
    again = Terminate()
    again.batches = 100
    assert run(again, resume=True) == 100 + (12 if interval == 1 else 6)


def test_load_from_begins_another_run(saved, tmp_path):
    """Nothing is compared and nothing restored."""
    resume(saved, tmp_path, resume=False, randomness__seed=3, optim_wrapper__optimizer__lr=0.1)
    state = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['run_state']
    assert (state['iteration'], state['seed'], state['streams']['labeled']) == (2, 3, 4)


def test_windows_of_accumulation(saved, tmp_path):
    """A checkpoint within one lacks gradients: none is planned, and none is resumed from."""
    two = dict(optim_wrapper__accumulative_counts=2, train_cfg__max_iters=4)
    for interval in (1, 3):
        with pytest.raises(ValueError, match=f'interval={interval} is no multiple of '
                                             '.*accumulative_counts=2'):
            build(saved[0], tmp_path / 'odd', default_hooks__checkpoint__interval=interval,
                  **two).train()
    loose = {'custom_hooks.2.strict': False}
    build(saved[0], tmp_path / 'loose', default_hooks__checkpoint__interval=3, **two,
          **loose).train()
    with pytest.raises(RuntimeError, match='window of 2 that iteration 3 lies in'):
        resume(saved, tmp_path / 'resumed', tmp_path / 'loose/iter_3.pth', **two)


def test_a_sampler_that_cannot_start_anywhere(saved, tmp_path):
    with pytest.raises(TypeError, match="BatchSampler cannot start in the middle.*SemiBatchSampl"):
        build(saved[0], tmp_path, train_dataloader__batch_sampler=None).train()


def test_a_finished_run_that_goes_on_says_so(tmp_path, monkeypatch):
    tiny.write_data(tmp_path / 'data')
    runner = tiny.run(tmp_path, tmp_path / 'data', [tiny.EMA], model=tiny.esl_cfg('dsl'),
                      train_cfg=dict(type='SemiTrainLoop', max_iters=1, val_interval=1))
    said = []
    monkeypatch.setattr(runner.logger, 'warning', lambda text, *_: said.append(text))
    with tiny.quiet():
        runner.train_loop.run()
    assert any('1 of 1 iterations are done. Raise train_cfg.max_iters' in text for text in said)
