"""What the doctor says of data: each fault planted in a small folder, and the folder without."""
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from mmengine.config import Config

from mmseg_esl.datasets import semi
from mmseg_esl.datasets.manifest import Manifest, write_manifest
from mmseg_esl.datasets.tar_files import write_index
from mmseg_esl.doctor.data import (
    LabelCounts,
    check_class_number,
    check_files,
    check_labels,
    check_left_out,
    check_lossy_masks,
    check_manifest,
    check_shards,
)
from mmseg_esl.doctor.leakage import NEAR, check_leakage
from mmseg_esl.doctor.lists import Lists, label_maps, perceptual_hash, scan_image

sys.path.insert(0, str(Path(__file__).parents[1] / 'integration'))
from commands import tool
from project import write_project


def picture(seed, size=(96, 128)):
    """Smooth, with structure at the scale that a perceptual hash looks at."""
    noise = np.random.RandomState(seed).rand(*size, 3).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 8)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


@pytest.fixture
def lists(tmp_path):
    """Two images of each set; none like another."""
    images = {}
    for i, which in enumerate(('labelled', 'unlabelled', 'validation')):
        images[which] = []
        for j in range(2):
            path = tmp_path / f'{which}{j}.png'
            cv2.imwrite(str(path), picture(10 * i + j))
            images[which].append(str(path))
    return images


def scans(images):
    return {path: scan_image(path) for paths in images.values() for path in paths}


def found(findings):
    return [(f.level, f.check) for f in findings]


def test_files(lists):
    assert found(check_files(lists, scans(lists))) == [('ok', 'files')]
    assert check_files(lists, scans(lists))[0].text == (
        'all images can be read: 2 labelled, 2 unlabelled, 2 validation')
    bad = lists['unlabelled'][1]
    for spoil, words in ((lambda: Path(bad).write_bytes(Path(bad).read_bytes()[:500]), 'truncated'),
                         (lambda: Path(bad).write_text('no'), 'no readable'),
                         (lambda: os.unlink(bad), 'does not exist')):
        spoil()
        finding, = check_files(lists, scans(lists))
        assert finding.level == 'error' and finding.fix
        assert words in finding.text and bad in finding.text and '1 unlabelled' in finding.text


def test_sixteen_bits(lists):
    cv2.imwrite(lists['labelled'][0], picture(0).astype(np.uint16) * 256)
    finding, = check_files(lists, scans(lists))
    assert finding.level == 'warning' and 'high byte' in finding.text


@pytest.mark.parametrize('first, second, level', [
    ('labelled', 'validation', 'error'), ('unlabelled', 'validation', 'warning'),
    ('labelled', 'unlabelled', 'warning')])
def test_overlap(lists, first, second, level):
    assert found(check_leakage(lists, scans(lists))) == [('ok', 'overlap')]
    shutil.copy(lists[first][0], lists[second][1])  # equal bytes under another name
    finding, = check_leakage(lists, scans(lists))
    assert (finding.level, finding.check) == (level, 'overlap')
    assert lists[first][0] in finding.text and lists[second][1] in finding.text and finding.fix
    lists[second][1] = lists[first][0]  # one file in both lists
    finding, = check_leakage(lists, scans(lists))
    assert (finding.level, finding.check) == (level, 'overlap')


@pytest.mark.parametrize('first, second, level', [
    ('labelled', 'validation', 'warning'), ('labelled', 'unlabelled', 'note')])
def test_near_duplicate(lists, first, second, level):
    """Smaller, and a JPEG of low quality: other bytes, the same picture."""
    image = cv2.resize(cv2.imread(lists[first][0]), None, fx=0.7, fy=0.7)
    small = lists[second][1].replace('.png', '.jpg')
    cv2.imwrite(small, image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    lists[second][1] = small
    finding, = check_leakage(lists, scans(lists))
    assert (finding.level, finding.check) == (level, 'near duplicates')
    assert f'{lists[first][0]} ~ {small}' in finding.text


def test_repeated_in_one_list(lists):
    shutil.copy(*lists['unlabelled'])
    assert found(check_leakage(lists, scans(lists))) == [('note', 'repeated images')]


def test_hash_tells_pictures_apart():
    def apart(a, b):
        return sum(bin(x ^ y).count('1') for x, y in zip(a, b))

    hashes = [perceptual_hash(picture(seed)[..., 0]) for seed in range(20)]
    assert min(apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > NEAR


def test_manifest(lists, tmp_path):
    files = [path for paths in lists.values() for path in paths]
    path = str(tmp_path / 'sums')
    write_manifest(path, files[:-1])
    assert found(check_manifest(None, files)) == [('note', 'manifest')]
    assert found(check_manifest(Manifest(path), files[:-1])) == [('ok', 'manifest')]
    Path(files[0]).write_bytes(b'other')
    os.unlink(files[1])
    said = check_manifest(Manifest(path), files)
    assert found(said) == [('error', 'manifest')] * 3
    for finding, name, words in zip(said, (files[0], files[1], files[-1]),
                                    ('its content', 'cannot be read', 'is not in the manifest')):
        assert name in finding.text and words in finding.text


# ------------------------------------------------------------------------------- labels


def counts(*values, shape=(10, 10)):
    """Label maps, each half of one value and half of the next of those given."""
    maps = []
    for a, b in zip(values, values[1:]):
        label = np.full(shape, a, np.uint8)
        label[5:] = b
        maps.append(('x.png', label, ''))
    return LabelCounts(maps)


NAMES = ['sky', 'road', 'tree']


@pytest.mark.parametrize('values, reduced, level, check', [
    ((0, 1, 2, 255), False, 'ok', 'label values'),
    ((0, 1, 2, 7), False, 'error', 'label values'),
    ((1, 2, 3, 1), False, 'error', 'reduce_zero_label'),
    ((1, 2, 1), False, 'warning', 'reduce_zero_label'),
    ((255, 0, 1, 2), True, 'ok', 'label values'),
    ((255, 0, 1), True, 'error', 'reduce_zero_label'),  # 0, 1, 2 with class 0 thrown away
])
def test_values(values, reduced, level, check):
    finding = check_labels(counts(*values), NAMES, reduced)[0]
    assert (finding.level, finding.check) == (level, check)


def test_classes():
    made = counts(0, 1, 0)
    made.pixels[2] = 3
    findings = {f.check: f for f in check_labels(made, NAMES, False, num_parts=5)}
    assert findings['classes'].text.endswith('sky 49.26% in 2, road 49.26% in 2, tree 1.48% in 0')
    assert findings['rare classes'].level == 'error' and 'tree' in findings['rare classes'].text
    made.pixels[2] = 0
    findings = {f.check: f for f in check_labels(made, NAMES, False)}
    assert findings['absent classes'].level == 'warning'
    assert "'tree'" in findings['absent classes'].text and 'rare classes' not in findings
    ignored = {f.check: f for f in check_labels(counts(255, 255, 0), NAMES, False)}
    assert '75.0%' in ignored['ignored pixels'].text
    assert check_labels(LabelCounts([('x', None, 'broken')]), NAMES, False)[0].level == 'error'


def test_label_maps_of_files(tmp_path):
    """Wrong values are said and counted; a colour mask is said; the rest is counted."""
    tiny.write_data(tmp_path)
    cv2.imwrite(str(tmp_path / 'ann/a1.png'), np.full((32, 32), 7, np.uint8))
    cv2.imwrite(str(tmp_path / 'ann/a2.png'), np.zeros((32, 32, 3), np.uint8))
    lists = Lists.of(Config(dict(train_dataloader=tiny.loader_cfg(tmp_path),
                                 val_dataloader=tiny.val_loader_cfg(tmp_path))))
    assert [len(lists.images[w]) for w in ('labelled', 'unlabelled', 'validation')] == [3, 3, 3]
    made = LabelCounts(label_maps(lists))
    assert made.maps == 2 and made.pixels[7] == 1024 and made.pixels.sum() == 2048
    assert len(made.problems) == 2 and 'label values 7' in made.problems[0]
    assert '3 channels' in made.problems[1]


@pytest.mark.parametrize('number, levels', [(3, ['ok']), (2, ['error'] * 2), (19, ['error'] * 2)])
def test_classes_of_head_and_data(tmp_path, number, levels):
    tiny.write_data(tmp_path)
    lists = Lists.of(Config(dict(train_dataloader=tiny.loader_cfg(tmp_path),
                                 val_dataloader=tiny.val_loader_cfg(tmp_path))))
    for model in (tiny.esl_cfg(num_classes=number), tiny.segmentor(number), tiny.cascade(number)):
        findings = check_class_number(model, lists)
        assert [finding.level for finding in findings] == levels
        assert all(f'num_classes is {number}' in f.text for f in findings if f.level == 'error')


def test_classes_of_the_other_heads_and_data(tmp_path):
    tiny.write_data(tmp_path)
    lists = Lists.of(Config(dict(train_dataloader=tiny.loader_cfg(tmp_path))))
    cascade, extra = tiny.cascade(), tiny.segmentor(auxiliary=True)
    cascade['decode_head'][0]['num_classes'] = extra['auxiliary_head']['num_classes'] = 19
    trained = tiny.esl_cfg(segmentor=extra)
    trained['semi_train_cfg'] = dict(trained['semi_train_cfg'], auxiliary_loss=True)
    for model, said in ((cascade, 'decode_head.0.num_classes is 19'), (
            extra, 'auxiliary_head.num_classes is 19'), (trained, 'auxiliary_head.num_classes is')):
        finding, = check_class_number(model, lists)
        assert finding.level == 'error' and said in finding.text
    borders = tiny.segmentor(auxiliary=True)
    borders['auxiliary_head'].update(type='STDCHead', num_classes=2, boundary_threshold=0.1)
    for model in (tiny.esl_cfg(segmentor=extra), borders):  # learns nothing; learns other classes
        finding, = check_class_number(model, lists)
        assert finding.level == 'ok'


def test_jpeg_masks_and_what_is_left_out(tmp_path, monkeypatch):
    tiny.write_data(tmp_path)
    loader, texts = tiny.loader_cfg(tmp_path), []
    for path in (tmp_path / 'ann').glob('*.png'):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path.with_suffix('.jpg')), label)
        assert (cv2.imread(str(path.with_suffix('.jpg')), cv2.IMREAD_UNCHANGED) != label).any()
    loader['dataset']['labeled'].update(seg_map_suffix='.jpg')
    (tmp_path / 'more/@eaDir').mkdir(parents=True)
    for index in range(2):
        shutil.copy(tmp_path / f'img/b{index}.png', tmp_path / f'more/{index}.png')
    (tmp_path / 'more/x.heic').touch()
    loader['dataset']['unlabeled'].update(ann_file='', img_suffix=None,
                                          data_prefix=dict(img_path='more'))
    monkeypatch.setattr(semi, 'print_log', lambda text, *_: texts.append(text))
    lists = Lists.of(Config(dict(train_dataloader=loader)))
    assert '3 masks of the labelled set are JPEG' in texts[0]
    finding, = check_lossy_masks(lists.masks)
    assert finding.level == 'error' and '3 labelled masks are JPEG' in finding.text
    said = ' '.join(finding.text for finding in check_left_out(lists))
    assert '1 files are images of a kind' in said and '1 folders of thumbnails' in said


# ----------------------------------------------------------------------------- command line


def doctor(monkeypatch, capsys, *args):
    """Exit status and what was printed."""
    with pytest.raises(SystemExit) as stopped:
        tool(monkeypatch, 'doctor.py', *args)
    return stopped.value.code, capsys.readouterr().out


def test_command(tmp_path, monkeypatch, capsys):
    config = write_project(tmp_path, size=(96, 128))
    data = tmp_path / 'data'
    options = ('--work-dir', tmp_path / 'work', '--cfg-options', 'train_cfg.max_iters=300',
               'param_scheduler.0.end=300')
    sums = data / 'SHA256SUMS'
    tool(monkeypatch, 'doctor.py', config, '--write-manifest', sums)
    assert 'checksums of 20 files' in capsys.readouterr().out  # 4 + 6 + 3 images, 4 + 3 masks

    manifest = f'train_dataloader.dataset.manifest={sums}'
    status, printed = doctor(monkeypatch, capsys, config, '--json', *options, manifest)
    read = json.loads(printed)
    assert status == 0 and read['status'] == 0, read
    levels = {finding['check']: finding['level'] for finding in read['findings']}
    for check in ('hooks', 'manifest', 'files', 'disk', 'label values', 'batch norm'):
        assert levels[check] == 'ok', (check, read)
    assert doctor(monkeypatch, capsys, config, '--strict', *options)[0] == 1  # no weights: warning

    shutil.copy(data / 'images/train/train1.png', data / 'images/val/val0.png')
    (data / 'images/unlabeled/unlabeled3.png').write_bytes(b'')
    status, printed = doctor(monkeypatch, capsys, config, *options, manifest)
    assert status == 1
    for words in ('error   overlap: 1 labelled images', 'it is empty', 'unlabeled3.png', 'fix: ',
                  'its content is not that of the manifest'):
        assert words in printed, words
    assert doctor(monkeypatch, capsys, tmp_path / 'none.py')[0] == 2


def test_shards_are_said_not_to_be_looked_at(tmp_path):
    tiny.write_data(tmp_path, unlabeled=4)
    with tarfile.open(tmp_path / 'img/0.tar', 'w') as tar:
        for i in range(4):
            tar.add(tmp_path / f'img/b{i}.png', f'b{i}.png')
    write_index(str(tmp_path / 'img/0.tar'), str(tmp_path / 'img/0.tar.index.npy'))
    loader = tiny.loader_cfg(tmp_path)
    files = Lists.of(Config(dict(train_dataloader=loader)))
    loader['dataset']['unlabeled'].update(type='UnlabeledShards', ann_file='')
    shards = Lists.of(Config(dict(train_dataloader=loader)))
    assert len(files.images['unlabelled']) == 4 and not shards.images['unlabelled']
    assert check_shards(files.semi.unlabeled) == check_shards(None) == []
    finding, = check_shards(shards.semi.unlabeled)
    assert finding.level == 'note' and finding.text.startswith('4 unlabelled images in tar shards')
