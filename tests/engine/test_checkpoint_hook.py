"""SemiCheckpointHook: what is on the disk at every moment, and what is resumed from it."""
import contextlib
import errno
import logging
import os
import pickle
import resource
import shutil
import signal
import zipfile

import pytest
import torch
from checkpointed import BEST, Before, hook, iteration, names, train
from line import make_runner
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from mmseg_esl.storage import atomic, portable
from mmseg_esl.storage.lock import Locked

# ---------------------------------------------------------------------------------- safe types


def test_checkpoint_needs_no_allow_list_and_the_log_comes_back(tmp_path):
    first = train(tmp_path, 2)
    content = torch.load(tmp_path / 'iter_2.pth', weights_only=True)
    assert content['meta']['dataset_meta']['palette'] == [[0] * 3] * 2
    assert 'version' in content['state_dict']._metadata['layer']
    second = make_runner(tmp_path, 4, checkpoint=hook(), resume=True)
    second.call_hook('before_run')
    second.load_or_resume()
    for key, buffer in first.message_hub.log_scalars.items():
        for ours, theirs in zip(second.message_hub.log_scalars[key].data, buffer.data):
            assert ours.dtype == theirs.dtype and (ours == theirs).all()
    assert torch.equal(second.model.layer.weight, first.model.layer.weight)
    second.train()
    assert second.iter == 4
    assert len(second.message_hub.log_scalars['train/loss'].data[0]) == 4


class PutInto(Hook):
    """Puts a value into the message hub or into a weight, after an iteration."""

    def __init__(self, info=None, weight=None, loss=None, at=3):
        self.info, self.weight, self.loss, self.at = info, weight, loss, at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 != self.at:
            return
        if self.info is not None:
            runner.message_hub.update_info('extra', self.info)
        if self.weight is not None:
            runner.model.layer.weight.data[0, 1] = self.weight
        if self.loss is not None:
            runner.message_hub.update_scalar('train/loss', self.loss)


def test_what_would_not_load_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match=r"runtime_info'\]\['extra'\]\[0\] is a pathlib"):
        train(tmp_path, 4, hooks=[PutInto(info=[tmp_path])])
    assert names(tmp_path) == ['iter_2.pth', 'last_checkpoint']


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('keep', [-1, 1])
def test_no_value_that_is_not_finite_is_saved(tmp_path, value, keep):
    with pytest.raises(FloatingPointError, match=r"'state_dict'\]\['layer.weight'\].*iter_2.pth"
                                                r'.*as load_from of a new run, without resume'):
        train(tmp_path, 4, hooks=[PutInto(weight=value)], max_keep_ckpts=keep)
    assert names(tmp_path) == ['iter_2.pth', 'last_checkpoint']
    assert torch.load(tmp_path / 'iter_2.pth')['state_dict']['layer.weight'].isfinite().all()


def test_infinities_by_design(tmp_path):
    train(tmp_path, 4, hooks=[PutInto(weight=float('inf'), at=4)],
          may_be_infinite=['layer.weight'])
    assert iteration(tmp_path / 'iter_4.pth') == 4


def test_log_of_a_bad_step_is_left_out(tmp_path):
    train(tmp_path, 4, hooks=[PutInto(loss=float('nan'))])
    packed = torch.load(tmp_path / 'iter_4.pth')['message_hub']['log_scalars']['train/loss']
    assert len(packed['log_history']) == 4 and packed['log_history'].isfinite().all()


@pytest.mark.parametrize('value, plain', [
    (dict(a=(1, 2.5, None, True, 'x')), dict(a=(1, 2.5, None, True, 'x'))),
    ([float('inf')], [float('inf')]),
])
def test_portable(value, plain):
    assert portable.portable(value) == plain


# ------------------------------------------------------------------------- a death at any moment


def die_at(step):
    """In this process: SIGKILL itself before the step-th thing that changes the disk."""
    count = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call

    class Half:
        """A file whose content reaches the disk in two pieces."""

        def __init__(self, file):
            self.file, self.fileno, self.flush = file, file.fileno, file.flush

        def write(self, data):
            for piece in (data[:len(data) // 2], data[len(data) // 2:]):
                counted(self.file.write)(piece)
                self.file.flush()

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

    opened = counted(open)
    atomic.open = lambda *args: Half(opened(*args))
    for name in ('fsync', 'replace', 'unlink'):
        setattr(os, name, counted(getattr(os, name)))


class DieInSave(Hook):
    """Arms die_at before an iteration, in the save after which it strikes."""

    def __init__(self, at, step):
        self.at, self.step = at, step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.at:
            die_at(self.step)


def killed(function) -> bool:
    """Run in a fork of this process; whether SIGKILL ended it (else: without an error)."""
    child = os.fork()
    if not child:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.parametrize('keep', [1, 2])
def test_killed_at_every_step_of_a_save(tmp_path, keep):
    """There is a whole checkpoint after each, resuming takes the newest, and clears up."""
    steps = 0
    train(tmp_path / 'four', 4, max_keep_ckpts=keep)
    while True:
        steps, folder = steps + 1, tmp_path / f'{steps}'
        shutil.copytree(tmp_path / 'four', folder)
        if not killed(lambda: train(folder, 6, resume=True, max_keep_ckpts=keep,  # noqa: B023
                                    hooks=[DieInSave(6, steps)])):  # noqa: B023
            break
        whole = {path: iteration(path) for path in folder.glob('iter_*.pth')}
        assert whole and max(whole.values()) in (4, 6)
        runner = make_runner(folder, 8, checkpoint=hook(max_keep_ckpts=keep), resume=True)
        runner.call_hook('before_run')
        runner.load_or_resume()
        assert runner.iter == max(whole.values())
        runner.train()
        wanted = [f'iter_{i}.pth' for i in (6, 8)[-keep:]]
        assert names(folder) == [*wanted, 'last_checkpoint']
        assert (folder / 'last_checkpoint').read_text() == 'iter_8.pth'
    assert steps >= 11  # open, 2 writes, 2 fsyncs, rename of each of two files; the removal


def test_a_second_training_in_the_folder_is_refused(tmp_path):
    """And it leaves the first one's files alone; a killed one blocks no restart."""
    def second(runner):
        before = names(tmp_path)
        child = os.fork()
        if not child:
            try:
                train(tmp_path, 6)
            except Locked as error:
                os._exit(7 if f'process {os.getppid()} on' in str(error) else 1)
            finally:
                os._exit(2)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
        assert names(tmp_path) == before and '.training' in before

    train(tmp_path, 4, hooks=[Before('train_iter', lambda runner, **kwargs: second(runner))])
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'last_checkpoint']
    assert killed(lambda: train(tmp_path, 8, resume=True, hooks=[Before(
        'train_iter', lambda runner, **kwargs: os.kill(os.getpid(), signal.SIGKILL))]))
    assert '.training' in names(tmp_path)
    assert train(tmp_path, 6, resume=True).iter == 6
    assert '.training' not in names(tmp_path)


def test_a_folder_that_several_runs_save_to_is_held_too(tmp_path):
    """Of the name of the work folder in ``out_dir``, which two work folders may share."""
    def second(runner):
        child = os.fork()
        if not child:
            try:
                train(tmp_path / 'b/run', 4, out_dir=str(tmp_path / 'out'))
            except Locked as error:
                os._exit(7 if f'{tmp_path}/out/run: process {os.getppid()} on' in str(error) else 1)
            finally:
                os._exit(2)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7

    train(tmp_path / 'a/run', 2, out_dir=str(tmp_path / 'out'), hooks=[Before(
        'train_iter', lambda runner, **kwargs: second(runner))])
    assert names(tmp_path / 'out/run') == ['iter_2.pth']
    train(tmp_path / 'c/run', 2, out_dir=str(tmp_path / 'out'))


# ------------------------------------------------------------------------------- a full disk


@pytest.mark.parametrize('keep', [-1, 1])
def test_full_disk(tmp_path, keep):
    def limited():
        train(tmp_path, 2, max_keep_ckpts=keep)
        size = (tmp_path / 'iter_2.pth').stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
        try:
            train(tmp_path, 4, resume=True, max_keep_ckpts=keep, default_hooks=dict(logger=None))
        except OSError as error:
            assert error.errno == errno.EFBIG
            (tmp_path / 'said').write_text(str(error))

    assert not killed(limited)
    said = (tmp_path / 'said').read_text()
    assert f'no checkpoint could be written to {tmp_path}' in said and 'MiB free' in said
    assert names(tmp_path) == ['iter_2.pth', 'last_checkpoint', 'said']
    assert iteration(tmp_path / 'iter_2.pth') == 2


# ---------------------------------------------------------------------------- the best so far


def test_best_goes_when_its_successor_is_there(tmp_path):
    train(tmp_path, 4, scores=[0.5, 0.7], **BEST)
    assert names(tmp_path) == ['best_score_iter_4.pth', 'iter_4.pth', 'last_checkpoint']
    for name in names(tmp_path)[:2]:
        assert iteration(tmp_path / name) == 4


@pytest.mark.parametrize('step', [2, 4, 6, 8, 10, 12, 14, 16, 18])
def test_killed_while_the_best_is_saved(tmp_path, step):
    train(tmp_path, 2, scores=[0.5], **BEST)

    def best(runner):
        die_at(step)

    killed(lambda: train(tmp_path, 4, resume=True, scores=[0.7], hooks=[Before('val', best)],
                         **BEST))
    assert [iteration(path) for path in tmp_path.glob('best_score_iter_*.pth')]
    assert [iteration(path) for path in tmp_path.glob('iter_*.pth')] == [4]
    train(tmp_path, 6, resume=True, scores=[0.9], **BEST)
    found = names(tmp_path)
    assert {'best_score_iter_6.pth', 'iter_6.pth', 'last_checkpoint'} <= set(found)
    # the one that was saved and not yet known may stay, nothing else does
    assert set(found[:-2]) <= {'best_score_iter_4.pth', 'best_score_iter_6.pth'}


class Fail(Hook):
    """Ends a training in the iteration ``at``."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize('store', [{}, dict(backend_args=dict(backend='local'))])
def test_the_first_best_of_a_resumed_run_is_in_a_checkpoint(tmp_path, store):
    """It comes before the next save; the one that it replaces is gone."""
    options = dict(BEST, interval=4, **store)
    train(tmp_path, 4, scores=[0.5, 0.6], **options)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 8, resume=True, scores=[0.9], hooks=[Fail(7)], **options)
    newest = max(tmp_path.glob('iter_*.pth'), key=iteration)
    info = torch.load(newest, weights_only=True)['message_hub']['runtime_info']
    assert os.path.basename(info['best_ckpt']) == 'best_score_iter_6.pth'
    assert os.path.isfile(info['best_ckpt']) and info['best_score'] == 0.9


def test_moved_folder_leaves_the_first_one_alone(tmp_path):
    """The checkpoint knows absolute paths of files that it will replace."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    train(first, 2, scores=[0.5], **BEST)
    before = names(first)
    shutil.copytree(first, second)
    train(second, 4, resume=True, scores=[0.7], **BEST)
    assert names(first) == before
    assert names(second) == ['best_score_iter_4.pth', 'iter_4.pth', 'last_checkpoint']


# ------------------------------------------------------------------------ what is resumed from


@pytest.fixture(scope='module')
def three(tmp_path_factory):
    """A work folder with checkpoints of iterations 2, 4 and 6; for copying."""
    folder = tmp_path_factory.mktemp('three')
    train(folder, 6)
    assert (folder / 'last_checkpoint').read_text() == 'iter_6.pth'
    return folder


@pytest.fixture
def work(three, tmp_path):
    shutil.copytree(three, tmp_path / 'work')
    return tmp_path / 'work'


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    """One bit of a weight, which torch itself does not notice."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        stored = next(i for i in archive.infolist() if i.filename.endswith('/data/0'))
    content[stored.header_offset + 64 - stored.header_offset % 64 + 1] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b'')


def text(path):
    path.write_text('not a checkpoint')


def other(path):
    torch.save(dict(weights=1), path)


def resumed(work, **options):
    runner = make_runner(work, 8, checkpoint=hook(), resume=True, **options)
    runner.call_hook('before_run')
    runner.load_or_resume()
    return runner


@pytest.mark.parametrize('damage', [cut, flip, empty, text, other])
def test_damaged_newest_gives_way_to_the_one_before(work, damage, caplog):
    damage(work / 'iter_6.pth')
    if damage is flip:
        torch.load(work / 'iter_6.pth', weights_only=True)  # else another damage would do
    with listening(caplog):
        assert resumed(work).iter == 4
    said = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
    assert any(str(work / 'iter_4.pth') in line and str(work / 'iter_6.pth') in line
               for line in said)
    damage(work / 'iter_4.pth')
    assert resumed(work).iter == 2
    damage(work / 'iter_2.pth')
    with pytest.raises(RuntimeError, match='(?s)no checkpoint can be read.*_6.*_4.*_2.*start anew'):
        resumed(work)


@contextlib.contextmanager
def listening(caplog):
    """mmengine's loggers do not pass on what they are told; their level is of our config."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MMLogger, 'callHandlers', lambda self, record: caplog.handler.emit(record))
        patch.setattr(MMLogger, 'isEnabledFor', lambda self, level: level >= logging.WARNING)
        yield


@pytest.mark.parametrize('pointer, wanted', [
    (None, 6), ('', 6), ('\n', 6), ('iter_99.pth', 6), ('/gone/with/its/folder/iter_6.pth', 6),
    ('iter_6.pth', 6), ('\0\xff', 6),
    ('iter_4.pth', 6),  # 6 was written after it, by a save that was killed before it moved this
])
def test_pointer(work, pointer, wanted):
    (work / 'last_checkpoint').unlink()
    if pointer is not None:
        (work / 'last_checkpoint').write_bytes(pointer.encode('latin1'))
    for index, name in enumerate(('iter_2.pth', 'iter_4.pth', 'iter_6.pth')):
        os.utime(work / name, (index, index))
    assert resumed(work).iter == wanted


def test_leftovers_of_another_run_are_no_progress(work):
    """A run that began anew in a used folder is at iteration 4; 6 is older."""
    (work / 'last_checkpoint').write_text('iter_4.pth')
    os.utime(work / 'iter_6.pth', (1, 1))
    assert resumed(work).iter == 4
    cut(work / 'iter_4.pth')
    assert resumed(work).iter == 2


def test_nothing_there_starts_anew(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('')
    assert train(tmp_path, 2, resume=True).iter == 2
    assert iteration(tmp_path / 'iter_2.pth') == 2


def test_checkpoints_of_mmengines_own_hook(tmp_path):
    runner = make_runner(tmp_path, 4)
    runner.train()
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_4.pth')
    runner = resumed(tmp_path)
    assert runner.iter == 4 and len(runner.message_hub.log_scalars['train/loss'].data[0]) == 4


@pytest.mark.parametrize('how', ['resume', 'load_from', 'both'])
def test_malicious_checkpoint_is_refused(work, how):
    """And nothing is resumed from in its place: it is no damage."""
    marker = work / 'marker'

    class Evil:
        def __reduce__(self):
            return os.system, (f'touch {marker}', )

    content = torch.load(work / 'iter_6.pth', weights_only=True)
    torch.save(dict(content, extra=Evil()), work / 'iter_6.pth')
    options = {} if how == 'resume' else dict(load_from=str(work / 'iter_6.pth'))
    runner = make_runner(work, 8, checkpoint=hook(), resume=how != 'load_from', **options)
    with pytest.raises(pickle.UnpicklingError, match='iter_6.pth is refused: it names .*system'):
        runner.call_hook('before_run')
        runner.load_or_resume()
    assert not marker.exists()


def test_a_checkpoint_cannot_have_other_files_removed(tmp_path, caplog):
    """What it says of its predecessors is data: only checkpoints of this run go."""
    work, outside = tmp_path / 'work', tmp_path / 'outside'
    train(work, 2, scores=[0.5], **BEST)
    outside.mkdir()
    precious = [outside / 'iter_1.pth', outside / 'thesis.txt', work / 'notes.txt',
                work / 'sub/iter_7.pth', work / 'iter_x/keep.pth']
    for path in precious:
        path.parent.mkdir(exist_ok=True)
        path.write_text('precious')
    (work / 'iter_1.pth').write_text('of a save that was killed before it removed this')
    content = torch.load(work / 'iter_2.pth', weights_only=True)
    info = content['message_hub']['runtime_info']
    info['superseded_ckpts'] = [*map(str, precious), '../outside/thesis.txt', 'notes.txt', '..',
                                'sub/iter_7.pth', 'iter_1.pth']
    info['keep_ckpt_ids'] = ['x/keep', 'x/../../../outside/thesis', 1.5, 2]
    info['best_ckpt'], info['best_score'] = str(work / 'notes.txt'), 0.1
    torch.save(content, work / 'iter_2.pth')
    with listening(caplog):
        train(work, 6, resume=True, scores=[0.7, 0.8], **BEST)
    assert all(path.read_text() == 'precious' for path in precious)
    assert not (work / 'iter_1.pth').exists()
    assert 'names files that are no checkpoints of this run' in caplog.text


def test_other_folder_for_checkpoints(tmp_path):
    work, out = tmp_path / 'work', tmp_path / 'out'
    train(work, 4, out_dir=str(out), max_keep_ckpts=1)
    assert names(out / 'work') == ['iter_4.pth']
    assert (work / 'last_checkpoint').read_text() == '../out/work/iter_4.pth'
    assert train(work, 6, resume=True, out_dir=str(out), max_keep_ckpts=1).iter == 6
    assert names(out / 'work') == ['iter_6.pth']
