"""Do the unlabelled images help: hand-written work folders of several seeds."""
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats
from test_summarize import config, training, validation, write_start

from mmseg_esl.results import compare

ROOT = Path(__file__).parents[2]
BEFORE, AFTER = (40.0, 42.5, 41.0), (43.0, 44.0, 45.5)


def runs(folder, values, variant='dsl+ctr', classes=None, seeds=(0, 1, 2), max_iters=100, **more):
    out = []
    for seed, value in zip(seeds, values):
        names = {f'teacher/IoU.{name}': iou + seed for name, iou in (classes or {}).items()}
        out.append(write_start(
            folder / f'{variant}{seed}',
            [training(max_iters), validation(max_iters, value, value + more.get('student', -1),
                                             **names)],
            config(seed, max_iters, variant), sha=f'list{seed}'))
    return out


@pytest.fixture
def both(tmp_path):
    return (runs(tmp_path, BEFORE, 'sup', dict(sky=80, pole=10, car=50, road=70)),
            runs(tmp_path, AFTER, classes=dict(sky=80.5, pole=17, car=46, road=72)))


def test_seed_by_seed(both):
    (found, ) = compare([*both[0], *both[1]])
    assert (found.before, found.after, found.seeds) == (list(BEFORE), list(AFTER), [0, 1, 2])
    low, high = stats.ttest_rel(AFTER, BEFORE).confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high)) and low < 0 < high
    assert found.gain == pytest.approx(3.0) and found.verdict == 'unclear'
    assert found.classes == pytest.approx(dict(pole=7, road=2, sky=0.5, car=-4))
    assert list(found.classes) == ['pole', 'road', 'sky', 'car']
    assert found.sentence == (
        f'No difference that is more than noise: +3.0 mIoU (95 % interval {low:+.1f} to '
        f'{high:+.1f}); most on pole +7.0, road +2.0; lost on car -4.0.')
    assert found.advice == '' and found.notes == []


@pytest.mark.parametrize('sign, word', [(1, 'help'), (-1, 'hurt')])
def test_more_than_noise(tmp_path, sign, word):
    after = [value + sign * (3 + seed / 10) for seed, value in enumerate(BEFORE)]
    (found, ) = compare([*runs(tmp_path, BEFORE, 'sup'), *runs(tmp_path, after)])
    assert found.verdict == word and f'The unlabelled images {word}: {sign * 3.1:+.1f}' in \
        found.sentence


def test_without_common_seeds_it_is_welch(tmp_path):
    found, = compare([*runs(tmp_path, BEFORE, 'sup'), *runs(tmp_path, AFTER, seeds=(3, 4, 5))])
    wanted = stats.ttest_ind(AFTER, BEFORE, equal_var=False).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(wanted)) and found.seeds == []
    assert found.notes[0] == 'the runs have no seed in common, so means are compared'


def test_one_seed_claims_nothing(tmp_path):
    found, = compare([*runs(tmp_path, BEFORE[:1], 'sup'), *runs(tmp_path, (60.0, ))])
    assert found.interval is None and found.verdict == 'unclear'
    assert found.sentence.startswith('One run each cannot tell: +20.0 mIoU')


def test_a_better_network_and_an_unfair_comparison_are_said(tmp_path):
    found, = compare([*runs(tmp_path, BEFORE, 'sup'),
                      *runs(tmp_path, AFTER, max_iters=200, student=2)])
    assert found.advice == ("'student' is better than 'teacher' by 2.0: export and predict with "
                            '--network student.')
    assert found.notes == ['the iterations differ']


def network(cfg):
    cfg['model']['segmentor']['decode_head']['channels'] = 64


def losses(cfg):
    cfg['model']['segmentor']['decode_head']['loss_decode'] = dict(type='CrossEntropyLoss')


def transforms(cfg):
    cfg['train_dataloader']['dataset']['labeled']['pipeline'] = [
        dict(type='RandomCrop', crop_size=(32, 32))]


def crops(cfg):
    transforms(cfg)
    cfg['train_dataloader']['dataset']['labeled']['pipeline'][0]['crop_size'] = (64, 64)


def images(cfg):
    cfg['train_dataloader']['batch_sampler'] = dict(num_labeled=6)


def weights(cfg):
    cfg['load_from'] = 'trained.pth'


@pytest.mark.parametrize('before, after, said', [
    (None, network, 'the networks differ'), (None, losses, None),
    (transforms, crops, 'the transforms of labelled images differ'), (crops, crops, None),
    (lambda cfg: cfg['train_dataloader'].update(batch_size=4), images,
     'the numbers of labelled images a step differ'),
    (None, weights, 'not all runs begin from trained weights (load_from)'),
    (weights, weights, None)])
def test_what_else_may_make_the_difference_is_said(tmp_path, before, after, said):
    sides = []
    for variant, change, values in (('sup', before, BEFORE), ('dsl+ctr', after, AFTER)):
        for seed, value in enumerate(values):
            cfg = config(seed, variant=variant)
            (change or (lambda cfg: None))(cfg)
            sides.append(write_start(tmp_path / f'{variant}{seed}',
                                     [training(100), validation(100, value)], cfg))
    found, = compare(sides)
    assert [note.startswith(said) for note in found.notes] == [True] if said else not found.notes


def test_each_seed_may_begin_from_its_own_network(tmp_path):
    def write(variant, seed, start):
        folder = tmp_path / start.replace('/', '_') / f'{variant}{seed}'
        return write_start(folder, [training(100), validation(100, 50)],
                           dict(config(seed, variant=variant), load_from=start.format(seed=seed)))

    for start in ('runs/sup_seed{seed}/iter_1000.pth', 'runs10/{seed}/x.pth'):
        found, = compare([write(variant, seed, start) for variant in ('sup', 'dsl') for seed in
                          (0, 1)])
        assert found.seeds == [0, 1] and found.notes == []
    with pytest.raises(ValueError, match='differ in more than the seed: load_from=.*other.pth'):
        compare([write('sup', 0, 'a.pth'), write('sup', 1, 'other.pth'), write('dsl', 0, 'a.pth')])


def test_each_method_by_itself(both, tmp_path):
    more = runs(tmp_path, AFTER, 'hard')
    one, two = compare([*both[0], *both[1], *more])
    assert (one.method, two.method) == ('ESL', 'CE + hard label')
    again, = compare(more, baseline=both[1])
    assert again.baseline == 'ESL' and again.gain == 0


def test_what_cannot_be_compared_is_named(both, tmp_path):
    with pytest.raises(ValueError, match='none of the runs is supervised.*--baseline'):
        compare(both[1])
    with pytest.raises(ValueError, match='all of the runs are supervised'):
        compare(both[0])
    other = runs(tmp_path / 'other', BEFORE, 'sup', max_iters=300)
    with pytest.raises(ValueError, match='differ in more than the seed.*max_iters'):
        compare([*both[0], *other, *both[1]])
    short = write_start(tmp_path / 'short', [training(50), validation(50, 1.0)], config(9))
    with pytest.raises(ValueError, match='validated last at 50 of 100.*--resume'):
        compare([*both[0], short])


def test_a_run_that_is_named_twice_counts_once(both, monkeypatch):
    monkeypatch.chdir(both[0][0].parent)
    before = [folder.relative_to(both[0][0].parent) for folder in both[0]]
    once, = compare([*both[0], *both[1]])
    assert compare([*both[0], *before, *both[1], both[1][0]]) == [once]
    assert compare([*both[0], *both[1]], baseline=before) == [once]


def test_runs_without_a_partner_are_said(both):
    found, = compare([*both[0][:2], *both[1][1:]])
    assert (found.before, found.after, found.seeds) == ([BEFORE[1]], [AFTER[1]], [1])
    assert found.notes == ['left out, since no run of the other side has their seed: sup0, '
                           'dsl+ctr2']


def test_two_runs_of_one_seed_are_told_apart_by_their_lists_or_refused(both, tmp_path):
    def again(value, sha):
        return write_start(tmp_path / sha, [training(100), validation(100, value)],
                           config(0, variant='sup'), sha=sha)
    with pytest.raises(ValueError, match=r'sup0 and .*list0 have the same seed \(0\)'):
        compare([*both[0], again(1.0, 'list0'), *both[1]])
    found, = compare([*both[0], again(1.0, 'another'), *both[1]])
    assert found.before == list(BEFORE) and found.notes[0].endswith('their seed: another')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_no_number_is_no_verdict(both, tmp_path, value):
    """nan is neither below nor above: it was 'The unlabelled images hurt: +nan mIoU'."""
    odd = runs(tmp_path / 'odd', [value, *AFTER[1:]], 'hard')
    with pytest.raises(ValueError, match='hard0: its last mIoU is (nan|inf)'):
        compare([*both[0], *odd])
    other = runs(tmp_path / 'other', AFTER, 'hard', student=value)
    assert compare([*both[0], *other])[0].advice == ''


def test_a_method_whose_name_was_not_recorded_is_no_baseline(tmp_path):
    old = [write_start(tmp_path / f'old{seed}', [training(100), validation(100, value)],
                       config(seed), method={}) for seed, value in enumerate(AFTER)]
    with pytest.raises(ValueError, match='none of the runs is supervised'):
        compare(old)
    found, = compare([*runs(tmp_path, BEFORE, 'sup'), *old])
    assert found.after == list(AFTER)


def test_the_command_prints_and_writes(both, tmp_path):
    out = tmp_path / 'compared.md'
    done = subprocess.run([sys.executable, ROOT / 'tools/compare.py', *both[0], *both[1], '--out',
                           out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == out.read_text()
    assert '| ESL, teacher | 3 | 44.17 ± 1.26 | 43.00, 44.00, 45.50 |' in done.stdout
    assert '| pole | +7.00 |' in done.stdout
    gone = subprocess.run([sys.executable, ROOT / 'tools/compare.py', tmp_path / 'nothing'],
                          capture_output=True, text=True)
    assert gone.returncode == 1 and gone.stderr.startswith('compare.py: ')
    assert str(tmp_path / 'nothing') in gone.stderr
