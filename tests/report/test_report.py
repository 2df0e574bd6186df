"""The page against the files it is made from, read here on their own."""
import base64
import inspect
import io
import json
import math
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import forked
import matplotlib.axes
import numpy as np
import pytest
import tiny
import workdirs
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny import EMA, PARTS, quiet, runner_cfg, write_data
from workdirs import CLASSES, FIRST, SECOND, Page, audit, config, training, validation, write_start

from mmseg_esl.engine.describe import describe
from mmseg_esl.looks.album import KINDS
from mmseg_esl.methods.esl import ESLTrainCfg
from mmseg_esl.models.part_memory import PartMemory
from mmseg_esl.report import curves, make_page
from mmseg_esl.report.read import ALL_PICTURES, pictures
from mmseg_esl.report.settings import settings
from mmseg_esl.results import read_run

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/report.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return workdirs.full_folder(tmp_path_factory.mktemp('runs') / 'the <run>')


@pytest.fixture(scope='module')
def text(folder):
    return make_page(folder)


@pytest.fixture(scope='module')
def page(text):
    return Page(text)


def tool(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], text=True,
                          capture_output=True)


def fork(tmp_path, *args) -> tuple:
    """Exit status and output of the tool in a fork of this process, which has imported all."""
    file = tmp_path / 'said'
    status = forked.command(TOOL, *args, folder=tmp_path, file=file)
    return status, file.read_text()


# ------------------------------------------------------------------------------- the page itself


def test_tags_match_and_ids_are_unique(page):
    ids = Counter(attrs['id'] for _, attrs in page.tags if 'id' in attrs)
    assert ids and max(ids.values()) == 1, ids
    for _, attrs in page.tags:
        for value in attrs.values():
            for name in re.findall(r'url\(#([^)]+)\)', value or ''):
                assert name in ids  # clip paths and markers of the plots
        if (attrs.get('xlink:href') or '').startswith('#'):
            assert attrs['xlink:href'][1:] in ids


def test_nothing_is_loaded_from_elsewhere(page, text):
    for tag, attrs in page.tags:
        assert tag not in ('script', 'iframe', 'object', 'embed', 'base')
        assert not any(name.startswith('on') for name in attrs)
        for name in ('src', 'href', 'xlink:href', 'srcset', 'data'):
            assert (attrs.get(name) or 'data:').startswith(('data:', '#')), attrs
    assert not re.findall(r'url\(["\']?(?!#)', text) and '@import' not in text


def test_names_are_escaped(page, text):
    for label in CLASSES:
        assert page.tables['classes'][1 + CLASSES.index(label)][0] == label
        assert page.tables['audit'][1 + CLASSES.index(label)][0] == label
    assert 'the <run>' in page.text and 'Sample<Dataset>' in page.text
    assert "python train.py 'a <b>.py'" in page.text
    assert 'Some GPU <with> 80GB' in page.text and 'a"><script>' in page.pictures()
    assert len([tag for tag, _ in page.tags if tag == 'img']) == 4
    assert '<script' not in text


# ---------------------------------------------------------------------------- figures against JSON


def rows_of(folder, name):
    path = folder / name / 'vis_data/scalars.json'
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_are_those_of_the_json(folder, page):
    """The first start's validation at 60 was beyond the checkpoint: the second replaces it."""
    rows = [row for row in rows_of(folder, FIRST) if row['step'] <= 50] + rows_of(folder, SECOND)
    found = {row['step']: row for row in rows if 'teacher/mIoU' in row}
    best = max(found, key=lambda step: found[step]['teacher/mIoU'])
    head, *lines = page.tables['scores']
    assert (best, head[1:]) == (80, ['last, at 100', 'best, at 80'])
    for line, name in zip(lines, ('teacher', 'student')):
        assert line == [name, *(f'{found[step][f"{name}/mIoU"]:.2f}' for step in (100, best))]
    # the dots are each network's own best
    student = max(found, key=lambda step: found[step]['student/mIoU'])
    assert student == 100 and 'student: best 51.13 at 100' in page.text
    assert 'teacher: best 52.35 at 80' in page.text and '99.0' not in page.text


def test_classes_are_those_of_the_last_validation(folder, page):
    last = rows_of(folder, SECOND)[-1]
    assert page.tables['classes'][1:] == [
        [label, *(f'{last[f"{name}/IoU.{label}"]:.2f}' for name in ('teacher', 'student')), '']
        for label in CLASSES]


def test_curves_end_where_the_log_ends(folder, page):
    last = [row for row in rows_of(folder, SECOND) if 'iter' in row][-1]
    for key in ('loss', 'loss_sce', 'confidence', 'lr'):
        assert re.search(rf'\b{key} .*?last {last[key]:.4g}', page.text), key
    shares = ' '.join(f'{name}: last {100 * last[f"dominant/{name}"]:.1f} %'
                      for name in ('1', '2', '3+'))
    assert shares in page.text


def test_names_of_the_first_release_and_of_now_draw_one_curve(tmp_path):
    """A run that an older release began: its rows and the new ones are one."""
    old = dict(training(10), anchors=2.0)
    new = {'dominant/3_or_more' if key == 'dominant/3+' else key: value
           for key, value in dict(training(20), anchors=4.0).items()}
    rows = [old, {'anchors/sky': 1.0, 'step': 10}, new, {'class/anchors/sky': 3.0, 'step': 20}]
    write_start(tmp_path, rows, config())
    found = Page(make_page(tmp_path))
    assert found.text.count('anchors, each class: dark 1 to light 3') == 1
    assert f'3+: last {100 * new["dominant/3_or_more"]:.1f} %' in found.text
    assert 'anchors/sky' not in found.text and 'dominant/3' not in found.text


def test_lines_go_through_the_values(folder):
    """The points of an SVG path are the logged values, but for one affine map of each axis."""
    steps = np.array([0, 10, 20, 50, 60])
    values = np.array([3.0, 1.0, 2.0, 0.5, 0.7])
    svg = curves.lines({'': (steps, values)}, 60)
    path, = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: none; '
                       rf'stroke: {curves.COLOURS[0]}', svg)
    points = np.array(re.findall(r'[ML] ([\d.]+) ([\d.]+)', path), float)
    for drawn, wanted in zip(points.T, (steps, values)):
        slope, offset = np.polyfit(wanted, drawn, 1)
        np.testing.assert_allclose(slope * wanted + offset, drawn, atol=1e-3)
    assert np.polyfit(values, points[:, 1], 1)[0] < 0  # up is more


def test_thinned_curves_are_means_of_neighbours():
    steps = np.arange(1.0, 2502)
    values = np.random.RandomState(0).rand(2501)
    found = curves.thin(steps, values)
    assert len(found[0]) == 834  # the fewest threes
    for index in (0, 400, 833):
        part = slice(3 * index, min(3 * index + 3, 2501))
        assert found[0][index] == pytest.approx(sum(steps[part]) / len(steps[part]))
        assert found[1][index] == pytest.approx(sum(values[part]) / len(values[part]))
    assert curves.thin(steps[:1000], values[:1000])[0].shape == (1000,)


def test_shades_of_each_class(monkeypatch):
    drawn = []
    mesh = matplotlib.axes.Axes.pcolormesh
    monkeypatch.setattr(matplotlib.axes.Axes, 'pcolormesh', lambda self, *args, **options: (
        drawn.append(args), mesh(self, *args, **options)))
    values = [[1.0, 2.0, math.nan], [0.0, 5.0, 7.0]]
    svg = curves.heat([300, 320, 340], ['sky', 'a class with a long name'], values, 400)
    (ends, rows, shades), = drawn
    assert list(ends) == [280, 300, 320, 340] and list(rows) == [0, 1, 2]
    np.testing.assert_array_equal(np.array(shades), values)
    assert '>sky<' in svg and '>a class with …<' in svg
    curves.heat([20], ['sky'], [[1.0]], 400)  # one value has no neighbour
    assert list(drawn[1][0]) == [19, 20]


def test_audit_figures(folder, page):
    found = json.loads((folder / 'audit/iter_100.json').read_text())
    columns = ('precision', 'recall', 'coverage', 'hard_accuracy', 'soft_hit_rate', 'ece',
               'hard_share', 'soft_share', 'true_share')
    for index, line in enumerate(page.tables['audit'][1:]):
        values = [found['per_class'][key][index] for key in columns]
        assert line == [CLASSES[index], *('–' if v is None else f'{100 * v:.1f}' for v in values),
                        '']
    for index, line in enumerate(page.tables['parts'][1:]):
        parts = found['parts']
        pairs = zip(parts['usage'][index], parts['part_purity'][index])
        assert line[3:] == [' '.join(
            wanted.format('–' if v is None else f'{100 * v:.1f}')
            for wanted, v in zip(('{}', '({})'), pair)) for pair in pairs]
    assert [line[1] for line in page.tables['parts'][1:]] == ['0.40', '0.43', '0.46', '–']
    assert 'soft, true class in the set: last 0.7 ' in page.text
    assert 'hard, argmax is true: last 0.6 ' in page.text
    assert 'Iteration 100, 7 images' in page.text


def test_audit_without_parts(tmp_path):
    write_start(tmp_path, [training(10)], config())
    workdirs.write_audits(tmp_path, audit(10, None))
    found = Page(make_page(tmp_path))
    assert 'audit' in found.tables and 'parts' not in found.tables


def test_pictures_in_order(page):
    assert page.pictures() == ['contact sheet', 'a"><script>', 'image 2', 'image 10']


def drawn(path, title='', caption='', seed=0, noisy=True) -> bytes:
    """A picture as tools/visualize.py writes them, large as a file if it is noisy."""
    rng, info = np.random.default_rng(seed), PngInfo()
    small = rng.integers(0, 255, (30, 50, 3)).astype(np.uint8)
    pixels = np.kron(small, np.ones((10, 10, 1), np.uint8))
    if noisy:
        pixels = pixels // 2 + rng.integers(0, 60, (300, 500, 1)).astype(np.uint8)
    for key, text in (('Title', title), ('Description', caption)):
        if text:
            info.add_text(key, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, pnginfo=info)
    return path.read_bytes()


def test_each_picture_stands_once_below_what_it_shows(tmp_path):
    """No sheet beside the pictures that it is made of, no file twice; headings are the files'."""
    write_start(tmp_path, [training(10)], config())
    folder = tmp_path / 'pictures'
    for index in range(2):
        drawn(folder / f'parts_val{index}.png', 'How <parts> group', f'val{index}, by a.pth', index)
    drawn(folder / 'contact_sheet_parts.png', seed=2)
    drawn(folder / 'contact_sheet_alone.png', seed=3)
    (folder / 'again').mkdir()
    (folder / 'again/copy.png').write_bytes((folder / 'parts_val0.png').read_bytes())
    found = Page(make_page(tmp_path))
    assert found.pictures() == ['contact sheet alone', 'val0, by a.pth', 'val1, by a.pth']
    assert found.text.index('contact sheet alone') < found.text.index('How <parts> group')
    assert found.text.count('How <parts> group') == 1 and 'left out' not in found.text


def test_a_picture_takes_the_fewer_bytes_and_looks_the_same(tmp_path):
    write_start(tmp_path, [training(10)], config())
    noisy = drawn(tmp_path / 'pictures/noisy.png')
    drawn(tmp_path / 'pictures/flat.png', noisy=False)
    page = make_page(tmp_path)
    sources = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    for name, (kind, data) in zip(('flat', 'noisy'), sources):
        data = base64.b64decode(data)
        with Image.open(tmp_path / f'pictures/{name}.png') as one, \
                Image.open(io.BytesIO(data)) as other:
            assert other.format.lower() == kind and one.size == other.size
            apart = np.abs(np.asarray(one, float) - np.asarray(other.convert('RGB'), float))
            assert apart.mean() < 12
        assert len(data) <= (tmp_path / f'pictures/{name}.png').stat().st_size
    assert len(sources) == 2 and len(page) < len(noisy)


def photograph(rng, wide, high) -> np.ndarray:
    """Noise with the spectrum of photographs, an amplitude of 1 / frequency."""
    y, x = np.fft.fftfreq(high)[:, None], np.fft.rfftfreq(wide)
    wave = np.fft.rfft2(rng.standard_normal((3, high, wide))) / np.hypot(np.hypot(y, x), 1 / wide)
    grey = np.fft.irfft2(wave, (high, wide))
    return (128 + 50 * grey / grey.std()).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def test_a_page_of_photographs_weighs_less_than_3_mb(tmp_path):
    """With as many pictures as tools/visualize.py draws unasked, in which others shrink nothing."""
    limit = re.search(r"'--limit'.+default=(\d+)", (ROOT / 'tools/visualize.py').read_text())[1]
    share = ALL_PICTURES // ((len(KINDS) - 1) * int(limit) + 1)  # the embedding is one of all
    rng = np.random.default_rng(0)
    (tmp_path / 'pictures').mkdir()
    flat = np.kron(rng.integers(0, 255, (8, 10, 3)), np.ones((45, 50, 1))).astype(np.uint8)
    sharp = np.hstack([photograph(rng, 500, 360), flat])
    for name, pixels in (('sharp', sharp), ('flat', flat)):
        Image.fromarray(pixels).save(tmp_path / f'pictures/{name}.png')
    [found] = pictures(tmp_path, [], 2 * share).values()
    shown = dict(found)
    assert len(shown['sharp']) <= share < (tmp_path / 'pictures/sharp.png').stat().st_size / 3
    assert shown['flat'].startswith('data:image/png')
    # with room for it, it is as it was
    [found] = pictures(tmp_path, []).values()
    assert len(dict(found)['sharp']) > share and dict(found)['flat'] == shown['flat']
    write_start(tmp_path, [training(10)], config())
    assert len(make_page(tmp_path)) < ALL_PICTURES + 500_000


def test_what_is_no_picture_is_said(tmp_path):
    """Damaged files, and one that would fill the memory."""
    write_start(tmp_path, [training(10)], config())
    whole = drawn(tmp_path / 'pictures/whole.png')
    (tmp_path / 'pictures/cut.png').write_bytes(whole[:-9000])
    (tmp_path / 'pictures/text.png').write_bytes(b'no picture')
    header = struct.pack('>4sIIBBBBB', b'IHDR', 10 ** 5, 10 ** 5, 8, 2, 0, 0, 0)
    (tmp_path / 'pictures/huge.png').write_bytes(
        whole[:12] + header + struct.pack('>I', zlib.crc32(header)) + whole[33:])
    found = Page(make_page(tmp_path))
    assert found.pictures() == ['whole']
    for name in ('cut', 'text', 'huge'):
        assert f'pictures/{name}.png is left out: not a PNG file' in found.text


def test_contents(page):
    """A link to every heading, in the order of the page."""
    targets = [attrs['id'] for tag, attrs in page.tags if tag == 'h2']
    links = [attrs['href'] for tag, attrs in page.tags if tag == 'a']
    assert links == [f'#{target}' for target in targets] and len(links) == 9


def test_time_and_memory(tmp_path):
    """Curves of their own, with the last value that was logged; what was not has none."""
    rows = [dict(training(step), time=0.1 + step, data_time=0.01 * step, memory=100 * step,
                 host_memory=7000 + step) for step in (10, 20)]
    write_start(tmp_path, rows, config())
    text = Page(make_page(tmp_path)).text
    costs = text[text.rindex('Time and memory'):text.rindex('Audit of the pseudo labels')]
    for said in ('seconds per iteration', 'all: last 20.1', 'waiting for data: last 0.2',
                 'GPU memory at most, MB', 'last 2000', 'main memory with loader workers, MB',
                 'last 7020'):
        assert said in costs, said
    assert not re.search('host_memory|data_time', text[:text.index('The whole config')])
    write_start(tmp_path / 'cpu', [training(10)], config())
    text = Page(make_page(tmp_path / 'cpu')).text
    assert 'seconds per iteration' in text and 'GPU memory' not in text


def test_settings_and_environment(page):
    for said in ('training ESL ', 'variant dsl+ctr (default)',
                 'η, mass of the dominant classes 0.9 ',
                 'λ₁, weight of the soft cross entropy 0.2 (default)', 'K, parts of a class 3 ',
                 'EMA momentum 0.996', 'batch 2 labelled + 3 unlabelled crop 33×65',
                 'SGD, lr 0.01, momentum 0.9', 'R50', '11 labelled and 222 unlabelled images',
                 '100 of 100 iterations', 'seed 5', 'resumed, 2 starts', 'commit abc123',
                 'mmcv 2.1', 'PyTorch 2.13.0', 'Python 3.11.7 (main) [GCC 12.2.0] CUDA',
                 'python train.py --resume'):
        assert said in page.text, said
    assert 'not an environment' not in page.text and 'GCC 13.3' not in page.text


def settings_of(tmp_path, model) -> dict:
    write_start(tmp_path, [training(10)], config(model=dict(
        type=type(model).__name__, segmentor=config()['model']['segmentor'])),
        method=describe(model))
    return settings(read_run(tmp_path, check=False))


def test_defaults_are_those_of_the_components(tmp_path):
    """Every key of the dataclass and of the memory that a page shows, and nothing else."""
    found = settings_of(tmp_path, tiny.esl(parts=5, queue=256, num_negatives=255))
    memory = inspect.signature(PartMemory).parameters
    for label, default in {
            'η, mass of the dominant classes': ESLTrainCfg().mass,
            'λ₁, weight of the soft cross entropy': ESLTrainCfg().sce_weight,
            'λ₂, weight of the contrast': ESLTrainCfg().ctr_weight,
            'ζ, confidence of anchors': ESLTrainCfg().confidence,
            'negatives': ESLTrainCfg().num_negatives, 'EMA momentum': ESLTrainCfg().ema_momentum,
            'K, parts of a class': memory['num_parts'].default,
            'q, entries of a queue': memory['queue_length'].default,
            'θ, momentum of prototypes': memory['momentum'].default}.items():
        assert found[label] == f'{default} (default)', label
    assert 'k of the top-k label' not in found  # says nothing of a dynamic label


def test_settings_that_do_not_count_are_left_out_unless_they_were_changed(tmp_path):
    found = settings_of(tmp_path, tiny.esl('topk', topk=3, cutmix_prob=0.25, start=False))
    assert (found['training'], found['k of the top-k label']) == ('CE + top-3', '3')
    assert found['cutmix_prob'] == '0.25' and found['num_negatives'] == '7'
    assert not any(label.startswith(('η', 'λ₂', 'ζ', 'K,')) for label in found)


def test_a_page_names_both_students(tmp_path):
    init_default_scope('mmseg')
    with quiet():
        model = MODELS.build(dict(type='CPS', segmentor=tiny.segmentor()))
    rows = [training(10), {'student/mIoU': 31.5, 'student2/mIoU': 32.5, 'student2/IoU.sky': 4.25,
                           'time': 1.0, 'step': 100}]
    cfg = config(model=dict(type='CPS', segmentor=config()['model']['segmentor']))
    write_start(tmp_path, rows, cfg, method=describe(model))
    found = Page(make_page(tmp_path))
    assert found.tables['scores'][1:] == [['student', '31.50', '31.50'],
                                          ['student2', '32.50', '32.50']]
    assert found.tables['classes'][0][:3] == ['class', 'student', 'student2']
    assert 'weight of the cross supervision 1.5 (default)' in found.text
    assert 'EMA momentum' not in found.text  # it has no average


def test_a_run_that_did_not_record_its_method(tmp_path):
    """As of release 0.1.0: what the config spells, as it spells it."""
    write_start(tmp_path, [training(10)], config())
    found = settings(read_run(tmp_path, check=False))
    assert found['training'] == 'ESL'
    assert (found['mass'], found['part_memory.num_parts']) == ('0.9', '3')
    assert not any('default' in value for value in found.values())


# --------------------------------------------------------------------------------- missing pieces


@pytest.mark.parametrize('rows, cfg, wanted', [
    (None, {}, ['no training was logged', 'Nothing was logged.', 'No validation yet.']),
    ([], {}, ['no training was logged']),
    ([training(10)], {}, ['unfinished: last logged iteration 10 of 100', 'No validation yet.']),
    ([training(100)], {}, ['no validation yet']),
    ([training(10), dict(validation(10, 5.0, 6.0), step=0), training(20)], {},
     ['logged by epoch', 'last 0.05', 'No validation yet.']),
    ([training(10)], dict(train_cfg=dict(max_epochs=3)),
     ['10 iterations seed 5', 'iterations 3 epochs']),
    ([training(10)], dict(train_cfg=None), ['not in the config']),
    ([training(100), {'mIoU': 12.341, 'step': 100}], dict(model=config()['model']['segmentor']),
     ['supervised (EncoderDecoder)', '12.34', 'No IoU of each class was logged']),
    ([training(100), {'teacher/mFscore': 1.0, 'step': 100}], {}, ['No validation has the metric']),
    ([training(100), validation(100, float('nan'), 3.0)], {}, ['nan', '3.00']),
    ([dict(training(10), loss=float('nan'), grad_norm=float('inf'))], {}, ['last nan', 'last inf']),
    ([training(10)], dict(model=dict(
        type='ESL', segmentor=dict(type='CascadeEncoderDecoder', decode_head=[
            dict(type='FCNHead', loss_decode=[dict(type='A'), dict(type='B')]),
            dict(type='OCRHead')]))), ['FCNHead, OCRHead', 'A, B']),
])
def test_missing_pieces_are_said(tmp_path, rows, cfg, wanted):
    write_start(tmp_path, rows, config(**cfg), log='' if rows is None else workdirs.LOG)
    found = Page(make_page(tmp_path))
    for said in ['No audit was written', 'No pictures', 'The command was not recorded', *wanted]:
        assert said in found.text, said
    assert 'anchors/sky' not in found.text


def test_damaged_files_are_said(tmp_path):
    start = write_start(tmp_path, [training(10), training(20)], config())
    path = start / 'vis_data/scalars.json'
    path.write_text(path.read_text()[:-20])
    workdirs.write_audits(tmp_path, audit(10), audit(11, schema=2), audit(12, per_class=[1]),
                          audit(30))
    (tmp_path / 'audit/iter_13.json').write_text('{"schema": 1, "it')
    (tmp_path / 'pictures').mkdir()
    (tmp_path / 'pictures/half.png').write_bytes(b'nothing')
    found = Page(make_page(tmp_path)).text
    for said in ('scalars.json is broken off', 'iter_11.json is left out: ValueError: schema 2',
                 'iter_12.json is left out: TypeError: per_class is a list',
                 'iter_13.json is left out', 'pictures/half.png is left out',
                 'audit of iteration 30 lies beyond the last logged one, 10'):
        assert said in found, said


# ------------------------------------------------------------------------------- the command line


def test_no_work_folder(tmp_path):
    done = tool(tmp_path)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert done.stderr.splitlines()[-1].startswith(f'report.py: {tmp_path}: no ')
    assert 'Name the work folder of a run' in done.stderr
    with pytest.raises(ValueError, match='nowhere: no .*Name the work folder'):
        make_page(tmp_path / 'nowhere')
    write_start(tmp_path, [training(10)], dict(train_cfg=None))
    with pytest.raises(ValueError, match="config.py has no 'model'"):
        make_page(tmp_path)


def test_pictures_that_cannot_be_made(tmp_path):
    write_start(tmp_path, [training(10)], config())
    status, said = fork(tmp_path, tmp_path, '--pictures')
    assert status == 1 and "no checkpoint that 'last_checkpoint' names" in said
    (tmp_path / 'iter_10.pth').write_bytes(b'no checkpoint')
    (tmp_path / 'last_checkpoint').write_text('iter_10.pth')
    status, said = fork(tmp_path, tmp_path, '--pictures')
    assert status == 1 and not (tmp_path / 'report.html').exists()
    assert re.search(r'visualize\.py .*config\.py .*iter_10\.pth --dumped --what all --out '
                     r'.*pictures failed with status \d', said)
    assert 'Without --pictures' in said


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A real run of four iterations, with two validations."""
    root = tmp_path_factory.mktemp('trained')
    write_data(root)
    hooks = [EMA, PARTS, dict(type='DiagnosticsHook'), dict(type='ProtocolHook')]
    cfg = runner_cfg(root / 'work', root, hooks, max_iters=4, val=True, save_every=4,
                     train_cfg=dict(type='SemiTrainLoop', max_iters=4, val_interval=2))
    with quiet():
        Runner.from_cfg(Config(cfg)).train()
    return root / 'work'


def test_a_real_run(trained, tmp_path):
    status, said = fork(tmp_path, trained, '--out', trained / 'sub/page.html')
    assert status == 0, said
    found = Page((trained / 'sub/page.html').read_text())
    path, = trained.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    last = [row for row in rows if 'teacher/mIoU' in row][-1]
    assert [line[1] for line in found.tables['scores'][1:]] == [
        f'{last[f"{name}/mIoU"]:.2f}' for name in ('teacher', 'student')]
    assert [line[0] for line in found.tables['classes'][1:]] == ['ground', 'thing', 'sky']
    assert rows[-2]['host_memory'] > 100  # MB, with torch
    for said in ('4 of 4 iterations', 'main memory with loader workers', 'loss_sce', 'loss_ctr',
                 'parts_used', 'anchors, each class: ', 'mmseg '):
        assert said in found.text, said


def test_pictures_of_a_real_run(trained, tmp_path):
    status, said = fork(tmp_path, trained, '--pictures')
    assert status == 0, said
    found = Page((trained / 'report.html').read_text()).pictures()
    made = [path for path in (trained / 'pictures').rglob('*.png')
            if not path.name.startswith('contact_sheet_')]
    assert len(found) == len(made) > 0  # sheets show the same ones again
    text = (trained / 'report.html').read_text()
    assert '<h3>Where the network is unsure: entropy of its probabilities, 0 to 1</h3>' in text
    assert all(name.endswith('by work/iter_4') for name in found)
    assert len(text) < 3 * 2 ** 20
