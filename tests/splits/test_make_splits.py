"""tools/make_splits.py, as a user calls it."""

import contextlib
import hashlib
import io
import subprocess
import sys
from pathlib import Path

import make_splits
import numpy as np
import pytest
from PIL import Image
from published_lists import LISTS, needed

TOOL = Path(__file__).parents[2] / 'tools/make_splits.py'


def call(*args, status=0):
    """In this process: what it prints on both streams."""
    said, found = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), \
            pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        try:
            make_splits.main()
        except SystemExit as end:
            found = end.code
    assert found == status, said.getvalue()
    return said.getvalue()


def test_it_is_a_command():
    done = subprocess.run([sys.executable, str(TOOL), 'registry', '--lists', str(TOOL.parent)],
                          text=True, capture_output=True)
    assert done.returncode == 2 and 'none of the folders' in done.stderr


@pytest.fixture
def data(tmp_path):
    """24 images in two folders, 20 with masks; class 3 in one mask only."""
    for i in range(24):
        name = f'{"ab"[i % 2]}/{i:02d}'
        for kind in ('images', 'masks'):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f'images/{name}.jpg')
        if i < 20:
            mask = np.full((4, 4), i % 3, np.uint8)
            mask[0] = 255
            mask[1, 1] = 3 if i == 7 else mask[1, 1]
            Image.fromarray(mask).save(tmp_path / f'masks/{name}_label.png')
    return tmp_path


def lines(path):
    return path.read_text().splitlines()


def test_generate_then_verify(data):
    out = data / 'splits'
    args = ('generate', '--images', data / 'images', '--masks', data / 'masks', '--mask-suffix',
            '_label.png', '--shares', '1/5', '10', '2', '--out', out)
    said = call(*args)
    assert '1-5: 4 of 20 (1/5 = 4.0) labelled, 20 unlabelled, seed 0; own lists' in said
    assert 'warning' in said and 'holds no image of' in said and f'{out}/2' in said  # 4 in two
    small, large = (set(lines(out / part / 'labeled.txt')) for part in ('1-5', '10'))
    assert small < large and 'b/07' in small and len(large) == 10
    assert not {f'{"ab"[i % 2]}/{i}' for i in range(20, 24)} & large  # without masks
    assert len(lines(out / '10/unlabeled.txt')) == 14
    files = {path: path.read_bytes() for path in out.rglob('*.txt')}
    call(*args)
    assert files == {path: path.read_bytes() for path in out.rglob('*.txt')}

    check = ('verify', '--lists', out, '--data-root', data, '--img-dir', 'images', '--mask-dir',
             'masks', '--mask-suffix', '_label.png')
    said = call(*check, '--manifest', data / 'SUMS')
    assert '3 lists or pairs are in order' in said
    sums = dict(reversed(line.split('  ')) for line in lines(data / 'SUMS'))
    masks = {name for part in ('1-5', '10', '2') for name in lines(out / part / 'labeled.txt')}
    assert len(sums) == 24 + len(masks)  # no mask of an unlabelled image
    assert sums['images/a/00.jpg'] == hashlib.sha256(
        (data / 'images/a/00.jpg').read_bytes()).hexdigest()

    (data / 'images/a/00.jpg').unlink()
    said = call(*check, '--manifest', data / 'SUMS2', status=1)
    assert 'files do not exist, such as' in said and 'images/a/00.jpg' in said
    assert not (data / 'SUMS2').exists()


def test_verify_takes_all_that_generate_writes(data):
    """Also where everything is labelled, and nothing that would be read back as something else."""
    out, args = data / 'splits', ('generate', '--images', data / 'images', '--masks',
                                  data / 'masks', '--mask-suffix', '_label.png', '--out')
    for i in range(20, 24):
        (data / f'images/{"ab"[i % 2]}/{i}.jpg').unlink()
    (out / '1-1').mkdir(parents=True)
    (out / '1-1/unlabeled.txt').write_text('a/20\n')  # of an earlier collection
    said = call(*args, out, '--shares', '1/1', '1/16')
    assert '1-16: 2 of 20 (1/16 = 1.2) labelled, 18 unlabelled' in said
    assert '1-1: 20 of 20 (1/1 = 20.0) labelled, 0 unlabelled' in said
    assert not (out / '1-1/unlabeled.txt').exists()
    assert '2 lists or pairs are in order' in call(
        'verify', '--lists', out, '--data-root', data, '--img-dir', 'images', '--mask-dir', 'masks',
        '--mask-suffix', '_label.png')
    (data / 'images/train2017').mkdir()
    (data / 'images/a/00.jpg').rename(data / 'images/train2017/00.jpg')
    said = call(*args, data / 'other', status=2)
    assert "read 'train2017/00' back as '00' (1 of 20 names). Give --images the folder" in said
    assert not (data / 'other').exists()


def test_generate_names_what_is_wrong(data):
    args = ['generate', '--images', data / 'images', '--out', data / 'out', '--masks']
    assert 'no image has a mask' in call(*args, data / 'masks', status=2)
    assert "share '1/0'" in call(*args, data / 'masks', '--mask-suffix', '_label.png', '--shares',
                                 '1/0', status=2)
    Image.new('RGB', (4, 4)).save(data / 'masks/a/00_label.png')
    said = call(*args, data / 'masks', '--mask-suffix', '_label.png', status=2)
    assert '3 channels' in said and '00_label.png' in said
    (data / 'masks/a/00_label.png').write_bytes(b'no image')
    said = call(*args, data / 'masks', '--mask-suffix', '_label.png', status=2)
    assert 'cannot be read' in said and not (data / 'out').exists()


def test_import_of_own_lists_and_the_rest_of_a_folder(data):
    lists = data / 'theirs'
    for name, text in {
            'x/labeled.txt': 'images/a/00.jpg masks/a/00.png\n', 'x/unlabeled.txt': 'b/01.jpg',
            'train_labeled_1-8.txt': 'a/00\nb/01', 'bad/labeled.txt': 'a/00\n',
            'bad/unlabeled.txt': 'a/00\na/02'}.items():
        (lists / name).parent.mkdir(parents=True, exist_ok=True)
        (lists / name).write_text(text)
    said = call('import', lists, '--out', data / 'ours', '--images', data / 'images', status=1)
    assert '1 images are labelled and unlabelled: a/00' in said
    assert not (data / 'ours/bad').exists()
    assert lines(data / 'ours/x/labeled.txt') == ['images/a/00']  # an unknown folder is kept
    assert lines(data / 'ours/x/unlabeled.txt') == ['b/01']
    rest = lines(data / 'ours/train_1-8/unlabeled.txt')
    assert len(rest) == 22 and rest == sorted(rest) and not {'a/00', 'b/01'} & set(rest)
    said = call('import', lists, '--out', data / 'o', '--protocol', 'voc-classic', status=2)
    assert 'no pair of lists of voc-classic' in said
    (lists / 'train_labeled_1-8.txt').write_text('a/00\nz')
    assert '1 labelled images are not in --images, such as z' in call(
        'import', lists, '--out', data / 'o', '--images', data / 'images', status=1)


def test_verify_without_lists(tmp_path):
    assert 'no list' in call('verify', '--lists', tmp_path, status=2)
    assert 'none of the folders' in call('registry', '--lists', tmp_path, status=2)


@needed
def test_verify_and_import_published(tmp_path):
    said = call('verify', '--lists', LISTS)
    for name in ('voc-classic/1-16', 'voc-blender-u2pl/1-2', 'voc-blender-unimatch/1-4',
                 'cityscapes-unimatch/1-30', 'cityscapes-u2pl/1-8', 'coco-unimatch/1-512'):
        assert f': {name} (' in said
    assert '40 lists or pairs are in order\n' in said
    call('import', LISTS, '--out', tmp_path / 'all')
    assert len(lines(tmp_path / 'all/voc-classic/full/unlabeled.txt')) == 9118
    assert not (tmp_path / 'all/coco-unimatch/1-32/unlabeled.txt').exists()
    call('import', LISTS, '--out', tmp_path / 'one', '--protocol', 'cityscapes-u2pl')
    assert sorted(p.name for p in (tmp_path / 'one').iterdir()) == ['1-16', '1-2', '1-4', '1-8']
    ids = lines(tmp_path / 'one/1-4/labeled.txt')
    assert len(ids) == 744 and ids == sorted(ids) and all('/' in i for i in ids)
    # ours are read as theirs were, and the files that mmseg would open are looked for
    ours = call('verify', '--lists', tmp_path / 'one', '--data-root', tmp_path / 'x', status=1)
    assert 'cityscapes-u2pl/1-4 (' in ours
    assert '2975 + ' not in ours and '3719 files do not exist' in ours  # 2975 images + 744 masks


@needed
def test_registry_command(tmp_path):
    text = call('registry', '--lists', LISTS)
    assert text.startswith('protocol,partition,list,count,sha256\n') and '2007_' not in text
    call('registry', '--lists', LISTS, '--out', tmp_path / 'r.csv')
    assert (tmp_path / 'r.csv').read_text() == text
