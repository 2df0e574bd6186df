"""One listing for each folder, instead of a question for each file."""
import os
import sys

import pytest
from mmseg.registry import DATASETS

from mmseg_esl.datasets.files import Folders
from mmseg_esl.datasets.wrapped import RealPath

needs_links = pytest.mark.skipif(sys.platform == 'win32', reason='links need rights there')


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ('a', 'a/b', 'closed'):
        (tmp_path / place).mkdir()
    for name in ('top.png', 'a/one.png', 'a/b/two.png', 'closed/three.png'):
        (tmp_path / name).write_bytes(b'')
    if sys.platform != 'win32':
        (tmp_path / 'a/link.png').symlink_to(tmp_path / 'top.png')
        (tmp_path / 'a/broken.png').symlink_to(tmp_path / 'nowhere.png')
        (tmp_path / 'a/folder').symlink_to(tmp_path / 'a/b')
    return tmp_path


NAMES = ('top.png', 'a/one.png', 'a/b/two.png', 'a/link.png', 'a/broken.png', 'a/folder', 'a/b',
         'a/folder/two.png', 'none.png', 'a/none.png', 'nowhere/none.png', 'closed/three.png')


@needs_links
@pytest.mark.parametrize('absolute', [False, True])
def test_as_os_path(tree, monkeypatch, absolute):
    real = os.scandir
    monkeypatch.setattr(os, 'scandir',
                        lambda place: (_deny if 'closed' in str(place) else real)(place))
    folders = Folders()
    for name in NAMES:
        path = str(tree / name) if absolute else name
        assert folders.isfile(*os.path.split(path)) == os.path.isfile(path), name
        assert folders.islink(*os.path.split(path)) == os.path.islink(path), name
        assert os.path.normpath(RealPath()(path)) == os.path.realpath(path), name


def _deny(place):
    raise PermissionError(13, 'Permission denied', str(place))


def test_files_are_not_asked_for_one_by_one(tmp_path, monkeypatch):
    for place in 'xyz':
        (tmp_path / 'img' / place).mkdir(parents=True)
        for number in range(20):
            (tmp_path / f'img/{place}/{number}.jpg').write_bytes(b'')
    names = [f'{place}/{number}.jpg' for number in range(20) for place in 'xyz']
    (tmp_path / 'list.txt').write_text('\n'.join(names))
    asked, listed, scandir = [], [], os.scandir
    for name in ('stat', 'lstat'):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *a, real=real, **k: (
            asked.append(str(path)), real(path, *a, **k))[1])
    monkeypatch.setattr(os, 'scandir', lambda path: (listed.append(path), scandir(path))[1])
    dataset = DATASETS.build(dict(
        type='UnlabeledDataset', data_root=str(tmp_path), data_prefix=dict(img_path='img'),
        ann_file='list.txt'))
    real_path = RealPath()
    for index in range(60):
        real_path(dataset.get_data_info(index)['img_path'])
    assert len(dataset) == 60
    assert len(listed) == 2 * 3
    assert not [path for path in asked if path.endswith('.jpg')]


def test_the_dicts_share_nothing(tmp_path):
    """They are made with one empty list among them, which a transform may fill."""
    (tmp_path / 'a.png').write_bytes(b'')
    (tmp_path / 'b.png').write_bytes(b'')
    for serialize in (True, False):
        dataset = DATASETS.build(dict(
            type='UnlabeledDataset', data_prefix=dict(img_path=str(tmp_path)),
            serialize_data=serialize))
        dataset.get_data_info(0)['seg_fields'].append('gt_seg_map')
        assert dataset.get_data_info(0)['seg_fields'] == []
        assert dataset.get_data_info(1)['seg_fields'] == []
