"""SemiCheckpointHook: what it is told, what it leaves to mmengine, and when it is asked to stop."""
import logging
import multiprocessing
import os
import signal
import warnings

import pytest
import torch
from checkpointed import BEST, Before, hook, iteration, names, train, validation
from line import make_runner
from mmengine.fileio import FileClient, LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

VALIDATES = dict(scores=[0.5, 0.7], **BEST)


@pytest.fixture
def said(monkeypatch):
    """What the log would be told, whatever its level."""
    found = []
    monkeypatch.setattr(MMLogger, 'isEnabledFor', lambda self, level: level >= logging.INFO)
    monkeypatch.setattr(MMLogger, 'callHandlers',
                        lambda self, record: found.append(record.getMessage()))
    return found


class Shelf(LocalBackend):
    """A store whose paths begin with ``shelf://`` and lie in the folder that the test gives."""
    root = None

    def _at(self, path):
        return str(path).replace('shelf://', f'{self.root}/')


for name in ('get', 'put', 'put_text', 'exists', 'isdir', 'isfile', 'remove'):
    def call(self, *args, name=name):
        *first, path = args
        return getattr(LocalBackend, name)(self, *first, self._at(path))

    setattr(Shelf, name, call)
register_backend('shelf', Shelf, prefixes='shelf')
FileClient.register_backend('shelf', Shelf, prefixes='shelf')


# ------------------------------------------------------------------------- what is mmengine's


@pytest.mark.parametrize('changes', [dict(backend_args=dict(backend='local')),
                                     dict(file_client_args=dict(backend='disk'))])
@pytest.mark.filterwarnings('ignore:."file_client_args" will be deprecated:DeprecationWarning')
def test_a_store_that_is_named_is_left_to_mmengine(tmp_path, changes):
    """Its pointer is an absolute path, ours is not; errors are explained all the same."""
    train(tmp_path, 4, **changes, **VALIDATES)
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_4.pth')
    assert names(tmp_path) == ['best_score_iter_4.pth', 'iter_4.pth', 'last_checkpoint']
    train(tmp_path, 6, resume=True, scores=[0.6], **changes, **BEST)
    assert names(tmp_path) == ['best_score_iter_4.pth', 'iter_6.pth', 'last_checkpoint']
    (tmp_path / 'iter_8.pth').mkdir()
    with pytest.raises(OSError, match=r'no checkpoint could be written to \S+: Is a directory\. '):
        train(tmp_path, 8, resume=True, **changes)
    # with none there, it begins anew
    assert train(tmp_path / 'new', 2, resume=True, **changes).iter == 2


def test_a_remote_folder_is_left_to_mmengine(tmp_path, monkeypatch):
    monkeypatch.setattr(Shelf, 'root', tmp_path / 'shelf')
    monkeypatch.chdir(tmp_path)
    train(tmp_path / 'work', 2, out_dir='shelf://runs')
    assert iteration(tmp_path / 'shelf/runs/work/iter_2.pth') == 2
    assert (tmp_path / 'work/last_checkpoint').read_text() == 'shelf://runs/work/iter_2.pth'
    assert sorted(os.listdir(tmp_path)) == ['shelf', 'work']  # no folder named 'shelf:'


def test_what_it_is_told_to_leave_out(tmp_path):
    train(tmp_path / 'all', 2)
    train(tmp_path / 'less', 2, save_optimizer=False, save_param_scheduler=False, max_keep_ckpts=0)
    whole, less = (torch.load(tmp_path / f'{name}/iter_2.pth', weights_only=True)
                   for name in ('all', 'less'))
    assert whole.keys() - less.keys() == {'optimizer', 'param_schedulers'}
    assert 'run_state' not in whole  # of a hook that is not there


# ----------------------------------------------------------------------------------- resuming


def test_a_used_folder_is_resumed_from_only_if_asked(tmp_path, said):
    train(tmp_path, 4)
    for resume, load_from, wanted in ((False, None, 0), (True, None, 4),
                                      (True, str(tmp_path / 'iter_2.pth'), 2)):
        said.clear()
        runner = make_runner(tmp_path, 8, checkpoint=hook(), resume=resume, load_from=load_from)
        runner.call_hook('before_run')
        runner.load_or_resume()
        assert runner.iter == wanted
        assert not any('starting anew' in text for text in said)
    train(tmp_path / 'empty', 2, resume=True)
    assert any(f'no checkpoint in {tmp_path}/empty to resume from' in text for text in said)


@pytest.mark.parametrize('restarts, resume, warned', [
    (None, False, False), ('0', False, False), ('3', False, True), ('3', True, False)])
def test_a_restart_that_would_begin_anew(tmp_path, monkeypatch, said, restarts, resume, warned):
    if restarts is not None:
        monkeypatch.setenv('TORCHELASTIC_MAX_RESTARTS', restarts)
    make_runner(tmp_path, 2, checkpoint=hook(), resume=resume).call_hook('before_run')
    assert any('torchrun may restart this run' in text for text in said) is warned


def test_the_best_of_each_of_two_metrics(tmp_path):
    """In a folder that was moved since; the first run's files stay."""
    options = dict(BEST, save_best=['one', 'two'])
    first, second = tmp_path / 'first', tmp_path / 'second'
    train(first, 4, scores=[dict(one=0.1, two=0.9), dict(one=0.2, two=0.8)], **options)
    best = ['best_one_iter_4.pth', 'best_two_iter_2.pth']
    assert names(first) == [*best, 'iter_4.pth', 'last_checkpoint']
    second.mkdir()
    for name in names(first):
        (second / name).write_bytes((first / name).read_bytes())
    train(second, 6, resume=True, scores=[dict(one=0.3, two=0.7)], **options)
    assert names(first) == [*best, 'iter_4.pth', 'last_checkpoint']
    assert names(second) == ['best_one_iter_6.pth', best[1], 'iter_6.pth', 'last_checkpoint']


def test_a_run_that_begins_elsewhere_removes_nothing_here(tmp_path):
    """The checkpoint names its predecessor, of which another run has one of the same name here."""
    there, here = tmp_path / 'there', tmp_path / 'here'
    train(there, 4, max_keep_ckpts=1)
    info = torch.load(there / 'iter_4.pth', weights_only=True)['message_hub']['runtime_info']
    assert info['superseded_ckpts'] == ['iter_2.pth']
    train(here, 2)
    train(here, 6, resume=True, load_from=str(there / 'iter_4.pth'))
    assert names(here) == ['iter_2.pth', 'iter_6.pth', 'last_checkpoint']


def test_a_checkpoint_that_names_itself_is_kept(tmp_path):
    train(tmp_path, 2)
    content = torch.load(tmp_path / 'iter_2.pth', weights_only=True)
    content['message_hub']['runtime_info']['superseded_ckpts'] = ['iter_2.pth']
    torch.save(content, tmp_path / 'iter_2.pth')
    train(tmp_path, 4, resume=True)
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'last_checkpoint']


# ------------------------------------------------------------------------------------- saving


def test_a_best_one_under_its_old_name_stays(tmp_path):
    """A validation that is repeated finds a better score in the same iteration."""
    runner = train(tmp_path, 4, **VALIDATES)
    runner.call_hook('after_val_epoch', metrics=dict(score=0.8))
    assert names(tmp_path) == ['best_score_iter_4.pth', 'iter_4.pth', 'last_checkpoint']
    assert runner.message_hub.get_info('best_score') == 0.8


def test_a_best_one_that_cannot_be_written(tmp_path):
    (tmp_path / 'best_score_iter_2.pth').mkdir()
    with pytest.raises(OSError, match='no checkpoint could be written to .*MiB free.*iter_2.pth'):
        train(tmp_path, 4, **VALIDATES)


# ----------------------------------------------------------------------------------- stopping


class Ask(Hook):
    """SIGTERM to this process in iteration ``at``; counts what is saved."""

    def __init__(self, at):
        self.at, self.saved = at, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_save_checkpoint(self, runner, checkpoint):
        self.saved.append(checkpoint['meta']['iter'])


@pytest.mark.parametrize('at, saved', [(3, [2, 3]), (4, [2, 4])])
def test_asked_to_stop(tmp_path, at, saved):
    """The iteration is saved, and once."""
    ask = Ask(at)
    with pytest.raises(SystemExit) as end:
        train(tmp_path, 8, hooks=[ask])
    assert end.value.code == 128 + signal.SIGTERM
    assert ask.saved == saved
    assert names(tmp_path) == [*(f'iter_{i}.pth' for i in saved), 'last_checkpoint']


def test_epochs_are_not_interrupted(tmp_path):
    """None can be resumed in its middle: signals do what they did."""
    def ours(runner, **kwargs):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    runner = make_runner(
        tmp_path, 0, checkpoint=hook(by_epoch=True, interval=1),
        custom_hooks=[Before('train_iter', ours)],
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2), sampler='DefaultSampler')
    assert runner.train() is runner.model
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']


def test_workers_of_a_validation_are_shielded(tmp_path):
    """From a Ctrl-C that the terminal sends to all: from the first batch on, here the only one."""
    groups = []

    class Look(Hook):
        priority = 'LOWEST'

        def before_val_iter(self, runner, batch_idx, data_batch=None):
            groups.extend((os.getpgid(child.pid), child.pid)
                          for child in multiprocessing.active_children())

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # a fork beside pytest's threads
        train(tmp_path, 2, hooks=[Look()], val_workers=1, scores=[0.5], **BEST)
    assert groups and all(group == pid for group, pid in groups)


def test_a_validation_without_a_training(tmp_path):
    runner = make_runner(tmp_path, 2, checkpoint=hook(), **validation([0.5]))
    assert runner.val() == dict(score=0.5)
