"""Runs that end too early: in comparisons, on the page and for the doctor."""
import pytest
import scipy.stats
from mmengine.config import Config
from test_compare import BEFORE, runs
from test_summarize import config, training, validation, write_start

from mmseg_esl.commands import CALLED
from mmseg_esl.doctor.training import check_baseline
from mmseg_esl.report import make_page
from mmseg_esl.results import compare, read_run
from mmseg_esl.results.trend import baseline_of, flat, last_quarter, read_baseline, rising


def learner(folder, values, variant='sup', seed=0, ends=100):
    """Validations at equal distances up to ``ends`` of 100 iterations."""
    steps = [ends * (i + 1) // len(values) for i in range(len(values))]
    rows = [row for step, value in zip(steps, values)
            for row in (training(step), validation(step, value))]
    return write_start(folder, rows, config(seed, variant=variant), sha=f'list{seed}')


def test_the_slope_of_the_second_half(tmp_path):
    # 10 points in 100 iterations, whatever went before
    run = read_run(learner(tmp_path / 'a', [0, 0, 0, 0, 20, 21, 22, 23, 24, 25]))
    assert list(last_quarter(run)) == pytest.approx([2.5, 0], abs=1e-6)
    assert rising(run).startswith('a is still rising, +2.5 ± 0.0 mIoU in its last quarter')
    level = read_run(learner(tmp_path / 'b', [0, 10, 20, 30, 40, 41, 40.5, 41, 40.5, 41]))
    assert rising(level) == '' and last_quarter(level)[0] < 0.5
    two = read_run(learner(tmp_path / 'c', [10, 20, 30]))
    assert last_quarter(two) is None and rising(two) == ''


def test_its_error_against_the_textbook(tmp_path):
    """s^2 = sum of squared residuals / (n - 2), error of the slope s / sqrt(sum (x - mean)^2)."""
    values = [10, 20, 30, 40, 41, 38, 44, 43, 40, 45]
    run = read_run(learner(tmp_path / 'a', values))
    gain, error = last_quarter(run)
    found = scipy.stats.linregress([50, 60, 70, 80, 90, 100], values[4:])
    assert gain == pytest.approx(25 * found.slope) and error == pytest.approx(25 * found.stderr)
    assert rising(run).startswith(f'a is still rising, {gain:+.1f} ± {error:.1f} mIoU')
    unsure = read_run(learner(tmp_path / 'b', [10, 20, 30, 40, 41, 38, 44, 40, 40, 43]))
    assert rising(unsure).startswith('b may be still rising, +0.9 ± 1.4') and not flat(unsure)
    waves = read_run(learner(tmp_path / 'c', [10, 20, 30, 40, 41, 38, 44, 40, 40, 40]))
    assert rising(waves) == '' and not flat(waves)  # that it has stopped is not known either


def test_a_comparison_with_a_short_run_says_so(tmp_path):
    found, = compare([learner(tmp_path / 'sup', [10, 20, 30, 40, 50, 60]),
                      learner(tmp_path / 'esl', [10, 20, 30, 40, 50, 61], 'dsl+ctr')])
    assert found.notes == [rising(read_run(tmp_path / 'sup'))]


def test_the_page_says_whether_unlabelled_images_help(tmp_path):
    mine = learner(tmp_path / 'mine', [50, 60], 'dsl+ctr')
    assert 'train the supervised baseline' in make_page(mine)
    learner(tmp_path / 'mine_supervised', [50, 55])
    assert 'One run each cannot tell: +5.0 mIoU' in make_page(mine)
    assert 'unlabelled images' not in make_page(tmp_path / 'mine_supervised').split('<h2>')[0]
    others = runs(tmp_path / 'others', BEFORE, 'sup')
    assert f'{60 - BEFORE[0]:+.1f} mIoU' in make_page(mine, others)


def test_the_page_of_a_short_run_says_so(tmp_path):
    assert 'is still rising' in make_page(learner(tmp_path / 'a', [10, 20, 30, 40, 50, 60]))


def test_the_doctor_looks_at_the_supervised_run(tmp_path, monkeypatch):
    monkeypatch.delenv(CALLED, raising=False)
    cfg = Config(dict(work_dir=str(tmp_path / 'mine'), model=dict(
        type='ESL', semi_train_cfg=dict(variant='dsl'))))
    note, = check_baseline(cfg)
    assert note.level == 'note' and note.fix.endswith(
        'convert_config.py YOURS.py --unlabeled DIR --method supervised --out this_supervised.py '
        'writes its config')
    for name in ('mine.py', 'mine_supervised.py'):  # as the converter writes them
        (tmp_path / name).write_text('')
    monkeypatch.chdir(tmp_path)
    note, = check_baseline(Config(cfg.to_dict(), filename=str(tmp_path / 'mine.py')))
    assert note.fix.endswith('train.py mine_supervised.py')
    learner(tmp_path / 'mine_supervised', [10, 20, 30, 40, 50, 60])
    warning, = check_baseline(cfg)
    assert warning.level == 'warning' and 'still rising, +15.0 ± 0.2 mIoU' in warning.text
    cfg.work_dir = str(tmp_path / 'other')
    learner(tmp_path / 'other_supervised', [60] * 6)
    assert [found.level for found in check_baseline(cfg)] == ['ok']
    cfg.train_cfg = dict(max_iters=4000)
    other, = check_baseline(cfg)
    assert other.level == 'warning' and 'has 100 iterations, this config 4000' in other.text
    cfg.train_cfg = dict(max_iters=100)
    for name, values in (('two', [50, 60]), ('lost', [60] * 4 + [float('nan')] * 2)):
        cfg.work_dir = str(tmp_path / name)
        learner(tmp_path / f'{name}_supervised', values)
        note, = check_baseline(cfg)
        assert note.level == 'note' and 'cannot be told' in note.text
        assert 'val_interval' in note.fix
    cfg.model = dict(type='Supervised')
    assert check_baseline(cfg) == []


def test_what_is_no_finished_baseline(tmp_path):
    assert baseline_of(tmp_path / 'mine') is None
    learner(tmp_path / 'mine_supervised', [1, 2, 3], ends=60)
    assert baseline_of(tmp_path / 'mine').name == 'mine_supervised'
    assert read_baseline(tmp_path / 'mine') is None


@pytest.mark.parametrize('odd', [float('nan'), float('inf')])
def test_what_is_no_number_does_not_rise(tmp_path, odd):
    lost = read_run(learner(tmp_path / 'lost', [10, 20, 30, 40, odd, odd]))
    assert last_quarter(lost) is None and rising(lost) == ''
    run = read_run(learner(tmp_path / 'once', [0, 0, 0, 0, 20, 21, odd, 23, 24, 25]))
    assert last_quarter(run)[0] == pytest.approx(2.5)


@pytest.mark.parametrize('line', ['train_cfg = [1]', "train_cfg = dict(max_iters='100')", '%'])
def test_an_odd_baseline_beside_a_run_spoils_no_page(tmp_path, line):
    mine = learner(tmp_path / 'mine', [50, 60], 'dsl+ctr')
    config_of, = learner(tmp_path / 'mine_supervised', [50, 55]).glob('*/vis_data/config.py')
    config_of.write_text(line)
    assert 'Whether the unlabelled images help cannot be said' in make_page(mine)
