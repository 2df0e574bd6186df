"""What a training says on the screen, and what stays in its log file."""
import json
import logging
import re
import sys
import time
import warnings
from types import SimpleNamespace

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmseg_esl.engine import screen
from mmseg_esl.engine.hooks.best_network_hook import BestNetworkHook, sentence
from mmseg_esl.engine.hooks.time_left_hook import TimeLeftHook, validations_left
from mmseg_esl.storage.errors import NoCheckpoint

ITEMS = ('base_lr: 2.4e-04 lr: 2.4e-04  eta: 1 day, 2:03:04  time: 0.5652  data_time: 0.0431  '
         'memory: 12390  ema_momentum: 0.9500  loss: 0.4684  decode.loss_ce: 0.3824')


class TimesLeft(Hook):
    """What each batch of a validation leaves to do, as logged, and as the batches so far took."""
    priority = 'LOW'

    def __init__(self):
        self.found = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        hub, batches = runner.message_hub, len(runner.val_dataloader)
        took = hub.get_scalar('val/time').data[0][-batch_idx - 1:]
        self.found.append((hub.get_info('eta'), sum(took) / len(took) * (batches - batch_idx - 1)))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(screen, log file, warnings, times left) of three iterations and their validation."""
    folder, out, watch = tmp_path_factory.mktemp('screen'), [], TimesLeft()
    tiny.write_data(folder / 'data')
    cfg = Config(tiny.runner_cfg(
        folder / 'work', folder / 'data', [tiny.EMA, tiny.PARTS, dict(type='DiagnosticsHook')],
        max_iters=3, val=True, save_every=3, log_level='INFO', log_processor=dict(by_epoch=False)))
    cfg.default_hooks.visualization = dict(type='SegVisualizationHook')
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        patch.setattr('sys.stdout', SimpleNamespace(write=out.append, flush=lambda: None,
                                                    isatty=lambda: False))
        runner = screen.ScreenRunner.from_cfg(cfg)
        for hook in (TimeLeftHook(), BestNetworkHook(), watch):
            runner.register_hook(hook)
        runner.train()
    path = next((folder / 'work').glob('*/*.log'))
    return (''.join(out).splitlines(), path.read_text(), [str(each.message) for each in warned],
            watch.found)


def test_dumps_are_in_the_file_alone(trained):
    shown, file, _, _ = trained
    first = next(place for place, line in enumerate(shown) if 'train [1/3]' in line)
    assert first <= 6, shown[:first]
    assert shown[0].endswith('.log') and 'log, config and environment: ' in shown[0]
    for dump in ('System environment:', 'Config:\n', 'Hooks will be executed'):
        assert dump in file and dump.strip() not in '\n'.join(shown)
    assert re.search(r'Iter\(train\) \[3/3\].* data_time: .*dominant/', file)  # as it always was


def test_lines_fit_a_terminal(trained):
    shown = trained[0]
    assert max(len(line) for line in shown if 'train [' in line or 'val [' in line) <= 120
    for number in (1, 2, 3):
        line = next(line for line in shown if f'train [{number}/3]' in line)
        assert re.search(r'  eta 0:\d\d:\d\d  time [\d.]+  loss [\d.]+  decode.loss_ce ', line)


def test_no_warning_that_nobody_can_act_on(trained):
    shown, file, warned, _ = trained
    assert [line for line in shown if ' warning: ' in line] == []
    assert 'The prefix is not set' in file and 'FileClient' in file
    # what is left of Python's can be acted on
    assert all('set ``avg_non_ignore=True``' in text for text in warned), warned


SET, UNSET = (dict(loss_decode=dict(type='CrossEntropyLoss', **key))
              for key in (dict(avg_non_ignore=True), {}))


@pytest.mark.parametrize('heads, auxiliary, trained, wanted', [
    (SET, None, False, True), (SET, UNSET, False, True), (SET, UNSET, True, False),
    (SET, [SET, UNSET], True, False), (SET, SET, True, True), (SET, None, True, True),
    (dict(loss_decode=[dict(avg_non_ignore=True), dict(type='DiceLoss')]), None, False, False),
    ([SET, dict(type='OCRHead')], None, False, False), (UNSET, None, False, False),
    (None, None, False, False)])
def test_a_frozen_heads_loss_warns_nobody(tmp_path, heads, auxiliary, trained, wanted):
    """Where the heads that train have what the warning asks for."""
    said = 'Default ``avg_non_ignore`` is False, if you would like to'
    runner = object.__new__(screen.ScreenRunner)
    runner._experiment_name = runner._timestamp = 'a'
    runner._log_dir, runner.cfg = str(tmp_path), Config(dict(model=dict(
        segmentor=dict(type='EncoderDecoder', decode_head=heads, auxiliary_head=auxiliary),
        semi_train_cfg=dict(auxiliary_loss=trained))))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        runner.build_logger(log_file=str(tmp_path / 'a.log'), name='a frozen head')
        warnings.warn(said, UserWarning, stacklevel=1)
    heard = [str(one.message) for one in warned]  # a name in use, too
    assert (said in heard) != wanted


def test_tables_say_whose_they_are(trained):
    text = '\n'.join(trained[0])
    for name in ('teacher', 'student'):
        assert re.search(
            rf'validation of the {name} on 3 images\n(.* val \[.*\n)*\+-+.*\n\| +Class', text)
    assert re.search(r' val \[3/3\]  time \S+  teacher/mIoU [\d.]+  student/mIoU [\d.]+', text)
    assert text.count('IoU.sky') == 0


def test_the_time_left_in_a_validation_is_of_one_network(trained):
    assert len(trained[3]) == 6
    for said, wanted in trained[3]:
        assert said == pytest.approx(wanted)


def test_the_last_word_says_which_network_is_best(trained):
    assert re.search(
        r'the (teacher|student)( is better than the | and the )(student|teacher).*mIoU [\d.]+ at '
        r'iteration 3.*export_segmentor.py \S+/iter_3.pth', trained[0][-1])


def test_clustering_says_how_long_it_took(trained):
    assert any(re.search(r'clustered in \d+ s', line) for line in trained[0])


def test_where_weights_come_from_is_said_once(tmp_path, capsys):
    """mmengine prints it past the log, and what does not match too."""
    path, said = tmp_path / 'plain.pth', []
    net = torch.nn.Linear(2, 2)
    torch.save(dict(state_dict=dict(weight=net.weight, odd=net.bias)), path)
    runner = object.__new__(screen.ScreenRunner)
    runner.model, runner._hooks = net, []
    runner.logger = SimpleNamespace(info=lambda text: said.append(('info', text)),
                                    warning=lambda text: said.append(('warning', text)))
    runner.load_checkpoint(str(path))
    assert capsys.readouterr().out == ''
    assert [level for level, _ in said] == ['info', 'info', 'warning']
    (_, own), (_, whence), (_, odd) = said
    assert own == f'Load checkpoint from {path}' and whence.startswith('Loads checkpoint by ')
    assert odd.startswith('The model and loaded state dict do not match') and 'odd' in odd
    assert 'bias' in odd
    shows = [screen.for_people(logging.LogRecord('', logging.INFO, '', 0, text, None, None))
             for text in (own, whence, odd)]
    assert shows == [True, False, True]
    with pytest.raises(NoCheckpoint):
        runner.load_checkpoint(str(tmp_path / 'none.pth'))


# ----------------------------------------------------------------------------------------- pieces


def shown(message, level=logging.INFO):
    record = logging.LogRecord('mmengine', level, '', 0, message, None, None)
    return screen.ScreenFormatter().format(record)


@pytest.mark.parametrize('columns, wanted', [
    (120, 'L  eta 1 day, 2:03:04  time 0.5652  memory 12390  loss 0.4684  decode.loss_ce 0.3824  '
          'lr 0.00024  ema_momentum 0.95'),
    (80, 'L  eta 1 day, 2:03:04  time 0.5652  memory 12390  loss 0.4684 ...'),
    (10, 'L ...')])
def test_the_figures_that_fit(columns, wanted):
    assert screen.figures('L', ITEMS, columns) == wanted


def test_a_line_is_as_long_as_it_may_be_and_no_longer():
    """Where the output is no terminal, 120 columns with the sign that figures were left out."""
    bare = len(shown('Iter(train) [1/9]  ')) + len('  loss 0.5') + len('  =0.4') + len(' ...')
    for room, fits in ((120, True), (121, False)):
        key = 'k' * (room - bare)
        line = shown(f'Iter(train) [1/9]  loss: 0.5000  {key}: 0.4000')
        assert line.endswith(f'  loss 0.5  {key} 0.4' if fits else '  loss 0.5 ...')


def test_scores_come_before_losses():
    assert screen.figures('L', 'decode.loss: 0.5000  a/mIoU: 40.00', 100) == (
        'L  a/mIoU 40  decode.loss 0.5')


def test_a_warning_of_pythons_is_one_line():
    assert re.fullmatch(r'\d\d:\d\d:\d\d  warning: be careful\n', screen.warning_for_people(
        'be careful', UserWarning, 'file.py', 7))


def test_other_lines_stay_as_they_are():
    assert shown('lists of this run: own lists').endswith('  lists of this run: own lists')
    assert shown('no room', logging.WARNING).endswith('  warning: no room')
    assert shown('\n+---+\n| a |\n+---+') == '+---+\n| a |\n+---+'
    assert re.fullmatch(r'\S+  train \[ 1\]\[ 20/100\]  loss 1.5',
                        shown('Epoch(train)  [ 1][ 20/100]  loss: 1.5000  '))
    try:
        raise ValueError('here')
    except ValueError:
        record = logging.LogRecord('mmengine', logging.ERROR, '', 0, 'failed', None, sys.exc_info())
    assert 'error: failed\nTraceback' in screen.ScreenFormatter().format(record)


@pytest.mark.parametrize('scores, iteration, wanted', [
    (dict(teacher=44.1, student=56.23), 100,
     'the student is better than the teacher by 12.1 (mIoU 56.2 at iteration 100): python '
     'tools/export_segmentor.py w/iter_100.pth student.pth --from student. Tools take the teacher '
     'unless they are told --network student'),
    (dict(student=56.23, teacher=60), 8,
     'the teacher is better than the student by 3.8 (mIoU 60.0 at iteration 8): python '
     'tools/export_segmentor.py w/iter_100.pth teacher.pth --from teacher'),
    (dict(student=50.01, teacher=50.0), 8,
     'the teacher and the student: mIoU 50.0 at iteration 8: python tools/export_segmentor.py '
     'w/iter_100.pth teacher.pth --from teacher'),
    (dict(student=50.0, teacher=50.04), 8, 'the teacher and the student: mIoU 50.0 at iteration 8: '
     'python tools/export_segmentor.py w/iter_100.pth teacher.pth --from teacher'),
    (dict(student=50), 8, 'the student: mIoU 50.0 at iteration 8: python '
                          'tools/export_segmentor.py w/iter_100.pth student.pth --from student')])
def test_the_best_network(monkeypatch, scores, iteration, wanted):
    monkeypatch.setattr('mmseg_esl.engine.hooks.best_network_hook.command',
                        lambda name: f'python tools/{dict(export="export_segmentor")[name]}.py')
    predicts = 'teacher' if 'teacher' in scores else 'student'
    assert sentence(scores, iteration, predicts, 'w/iter_100.pth') == wanted
    assert ': python' not in sentence(scores, iteration, predicts, None)
    for path, typed in (('s3://a/b.pth', 's3://a/b.pth'), ('my runs/b.pth', "'my runs/b.pth'")):
        assert f'.py {typed} ' in sentence(scores, iteration, predicts, path)


@pytest.mark.parametrize('scores, predicts', [({}, 'teacher'), ({'teacher/mIoU': 50.0}, None)])
def test_no_word_where_there_is_none_to_say(scores, predicts):
    """Nothing was validated; the model is no method's."""
    model, said = torch.nn.Linear(2, 2), []
    if predicts:
        model.semi_test_cfg = dict(predict_on=predicts)
    runner, hook = SimpleNamespace(
        model=model, iter=3, message_hub=SimpleNamespace(runtime_info={}),
        logger=SimpleNamespace(info=said.append)), BestNetworkHook()
    hook.before_train(runner)
    hook.after_val_epoch(runner, scores)
    hook.after_train(runner)
    assert said == []


@pytest.mark.parametrize('last, interval, begin', [
    (10, 3, 1), (9, 3, 1), (10, 3, 7), (10, 2, 4), (4, 10, 1), (1, 1, 1)])
def test_validations_left(last, interval, begin):
    loop = SimpleNamespace(val_interval=interval, val_begin=begin)
    # as SemiTrainLoop does, after its iteration number ``done``
    due = [done for done in range(1, last + 1)
           if done >= begin and (done % interval == 0 or done == last)]
    for iteration in range(last):
        runner = SimpleNamespace(iter=iteration, max_iters=last, train_loop=loop, val_loop=object())
        assert validations_left(runner) == sum(done > iteration for done in due), iteration
    assert validations_left(SimpleNamespace(val_loop=None)) == 0


def clocked(model, iteration=9, max_iters=100):
    """(runner whose iterations take what ``times.current`` says, times, what the hook said)."""
    times, said = SimpleNamespace(current=lambda: 2.0), {}
    hub = SimpleNamespace(get_scalar=lambda name: times, update_info=said.__setitem__)
    return SimpleNamespace(
        iter=iteration, max_iters=max_iters, message_hub=hub, val_loop=object(), model=model,
        train_loop=SimpleNamespace(val_interval=50, val_begin=1)), times, said


def test_the_time_left_counts_validations_and_the_pace_of_now():
    runner, times, said = clocked(object())
    hook = TimeLeftHook()
    hook.before_train(runner)
    for times.current in [lambda: 900.0] + 9 * [lambda: 1.0]:  # the first one clustered features
        hook.after_train_iter(runner, 0)
    assert said['eta'] == 90
    for times.current in 60 * [lambda: 2.0]:  # unlabelled images count from here on
        hook.after_train_iter(runner, 0)
    assert said['eta'] == 180
    hook.validation = 7.0
    hook.after_train_iter(runner, 0)
    assert said['eta'] == 180 + 2 * 7
    for times.current in 40 * [lambda: 3.0]:  # more than half of the last fifty
        hook.after_train_iter(runner, 0)
    assert said['eta'] == 270 + 2 * 7


def test_the_time_left_of_the_very_first_iterations():
    runner, times, said = clocked(object(), iteration=0)  # no method: it has no warm-up
    hook = TimeLeftHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert said['eta'] == 99 * 2
    runner.iter = 1
    times.current = lambda: 4.0
    hook.after_train_iter(runner, 1)
    assert said['eta'] == 98 * 3  # the first one still counts
    hook.before_val(runner)
    time.sleep(0.01)
    hook.after_val(runner)
    hook.after_train_iter(runner, 1)
    assert 2 * 0.01 <= said['eta'] - 98 * 4 < 60


def test_a_line_after_the_first_pass_over_few_images_has_losses(tmp_path):
    """LoggerHook writes one there, whatever its interval."""
    tiny.write_data(tmp_path / 'data', labeled=4)
    tiny.run(tmp_path, tmp_path / 'data', [tiny.EMA, dict(type='DiagnosticsHook')], max_iters=3,
             model=tiny.method_cfg('Supervised'), interval=10,
             train_dataloader=tiny.loader_cfg(tmp_path / 'data', labeled=2, unlabeled=0))
    path, = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    first = json.loads(path.read_text().splitlines()[0])
    assert first['iter'] == 2 and first['loss'] > 0
