"""The study for a GPU, rehearsed on the CPU; and a ladder that has to stop in time."""
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from gpu import study
from mmengine.config import Config
from project import DATA, ROOT, write_project

from mmseg_esl.conversion import methods
from mmseg_esl.ladder import limit, rungs

PATIENT = """
import signal, sys, time
def stop(*args):
    open(sys.argv[1], 'a').write('saved'); sys.exit(3)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1], 'w').write('begun ')
time.sleep(60)
"""


def test_two_methods_are_trained_and_go_on(tmp_path, capsys):
    write_project(tmp_path)
    (tmp_path / 'data.py').write_text(DATA)
    command = ['--data', str(tmp_path / 'data.py'), '--out', str(tmp_path / 'out'), '--seeds', '0',
               '--methods', 'supervised', 'esl', '--cfg-options', 'train_cfg.max_iters=2',
               'train_cfg.val_interval=2']
    study.main([*command, '--minutes', '0'])
    assert '| supervised | 0 | ' in capsys.readouterr().out
    assert not list((tmp_path / 'out').glob('*_seed0'))  # no time, no run
    study.main(command)
    said = capsys.readouterr().out
    assert said.count('is finished\n') == 2
    text = (tmp_path / 'out/results.md').read_text()
    assert re.search(r'^\| supervised \| 1 \| student \d', text, re.M)
    assert re.search(r'^\| ESL \| 1 \| teacher \d', text, re.M)
    assert 'mIoU of the last iteration' in text and 'commit ' in text
    study.main(command)
    assert '2 of 2 runs are finished' in capsys.readouterr().out


def test_a_run_that_fails_keeps_no_other_group_back(tmp_path, monkeypatch):
    """The ladder ends with 1 then, after the table."""
    begun = []

    def ladder(argv):
        begun.append(argv)
        if '--row' in argv and '--table' not in argv:
            sys.exit(1)
        return f'| method |\n|---|\n| {len(begun)} |'

    monkeypatch.setattr(study.ladder, 'main', ladder)
    with pytest.raises(SystemExit, match='1'):
        study.main(['--out', str(tmp_path), '--minutes', '9'])
    assert ['--table' in argv for argv in begun] == [False, False, True, False]
    assert (tmp_path / 'results.md').read_text().endswith('|---|\n| 1 |\n| 3 |\n| 4 |\n')


@pytest.mark.parametrize('code', [143, 'another training'])
def test_a_signal_or_a_refusal_ends_it(tmp_path, monkeypatch, code):
    monkeypatch.setattr(study.ladder, 'main', lambda argv: sys.exit(code))
    with pytest.raises(SystemExit, match=str(code)):
        study.main(['--out', str(tmp_path)])


def test_the_most_important_come_first():
    first, recipe, rest = study.groups(None)
    assert first[1:3] == ['supervised', 'esl'] and recipe.count('--row') == len(study.RECIPE)
    assert sorted(first[1:] + rest[1:]) == methods()
    for _, method, *keys in study.RECIPE:  # keys that the methods know
        rungs.Row('x', method, keys)


def test_the_config_is_at_full_size():
    cfg = Config.fromfile(str(ROOT / 'dev/study/camvid_full_1-16.py'))
    for stream in (cfg.train_dataloader.dataset.labeled, cfg.train_dataloader.dataset.unlabeled):
        resize, crop = stream.pipeline[2:4]
        assert tuple(resize.scale) == (480, 360) and tuple(crop.crop_size) == (320, 320)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == 4000
    assert cfg.val_dataloader.dataset.data_prefix.img_path.endswith('val')
    assert cfg.test_dataloader.dataset.data_prefix.img_path.endswith('test')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert [t.type for t in loader.dataset.pipeline] == [
            'LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']


def test_where_things_lie(tmp_path):
    args = study.parse_args(['--data-root', str(tmp_path), '--weights', str(tmp_path / 'w.pth')])
    given = dict(option.split('=', 1) for option in study.options(args))
    assert given['train_dataloader.dataset.unlabeled.ann_file'] == \
        'splits/seed{seed}/1_16/unlabeled.txt'
    assert given['model.segmentor.backbone.pretrained_cfg_overlay.file'].endswith('/w.pth')
    assert given['test_dataloader.dataset.data_root'] == str(tmp_path)


@pytest.mark.parametrize('seconds, said', [(-1, None), (1.5, 'begun saved')])
def test_time_is_up(tmp_path, seconds, said):
    """Nothing is started, or what runs may save."""
    (tmp_path / 'patient.py').write_text(PATIENT)
    note = tmp_path / 'note'
    with open(tmp_path / 'log', 'w') as log:
        code = limit.run_until(limit.Limit(seconds / 60).over, [
            sys.executable, str(tmp_path / 'patient.py'), str(note)], log)
    assert code is None and (note.read_text() if note.exists() else None) == said


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_as_time_that_is_up(tmp_path, number):
    """The first run saves, the second is not begun; afterwards signals are as they were."""
    (tmp_path / 'patient.py').write_text(PATIENT)
    notes = [tmp_path / 'first', tmp_path / 'second']

    def mine(*args):
        """Of whoever runs the ladder; the tests themselves may ignore signals (nohup)."""

    before = signal.signal(number, mine)
    try:
        with open(tmp_path / 'log', 'w') as log, limit.Limit() as until, \
                ThreadPoolExecutor(1) as pool:
            runs = [pool.submit(limit.run_until, until.over, [
                sys.executable, str(tmp_path / 'patient.py'), str(note)], log) for note in notes]
            while not notes[0].exists() or notes[0].read_text() != 'begun ':
                time.sleep(0.02)
            os.kill(os.getpid(), number)
            assert [run.result(20) for run in runs] == [None, None] and until.signal == number
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)
    assert notes[0].read_text() == 'begun saved' and not notes[1].exists()


def test_a_signal_that_was_ignored_stays_so():
    """As of a program in the background, or after nohup."""
    before = {number: signal.signal(number, signal.SIG_IGN)
              for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        with limit.Limit() as until:
            for number in before:
                os.kill(os.getpid(), number)
            assert not until.over()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_counts_where_nothing_can_be_printed(monkeypatch):
    """The terminal was closed."""
    monkeypatch.setattr('sys.stdout', open('/dev/full', 'w'))
    with limit.Limit() as until:
        os.kill(os.getpid(), signal.SIGTERM)
        assert until.over()


def test_an_exit_code_is_given_back(tmp_path):
    with open(tmp_path / 'log', 'w') as log:
        assert limit.run_until(limit.never, [sys.executable, '-c', 'exit(5)'], log) == 5


def test_configs_are_read_one_at_a_time(tmp_path, monkeypatch):
    """mmengine reloads pkg_resources, in which another thread may be."""
    reading, most = [], []

    def apart(rung):
        reading.append(rung)
        most.append(len(reading))
        time.sleep(0.1)
        reading.remove(rung)
        return False

    monkeypatch.setattr(rungs.Rung, 'apart', property(apart))
    row = rungs.Row('supervised', 'supervised')
    runs = [rungs.Rung(row, seed, tmp_path) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(lambda rung: rungs.finish(rung, limit.Limit(-1).over), runs))
    assert most == [1, 1, 1]
    assert said == [f'supervised_seed{seed} {rungs.STOPPED}' for seed in range(3)]
