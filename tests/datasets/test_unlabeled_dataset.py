import os
import pickle
import sys

import pytest
from mmseg.registry import DATASETS

from mmseg_esl.conversion.config import check_folder
from mmseg_esl.datasets import unlabeled
from mmseg_esl.predict.images import list_items


def build(**kwargs):
    return DATASETS.build(dict(type='UnlabeledDataset', **kwargs))


def names(dataset, root):
    return [
        os.path.relpath(dataset.get_data_info(i)['img_path'], root).replace(os.sep, '/')
        for i in range(len(dataset))
    ]


@pytest.fixture
def folder(tmp_path, write):
    root = tmp_path / 'images'
    for i, name in enumerate(['b.jpg', 'a/c.PNG', 'a/b/d.JPeG', 'z.bmp', 'e.tif', 'f.TIFF',
                              'g.webp', 'été/猫.png', 'with space.jpg']):
        write.image(root / name, seed=i)
    for name in ['.hidden.jpg', '.cache/x.jpg', 'notes.txt', 'x.json']:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b'no image')
    return root


def test_what_a_folder_leaves_out_is_said_and_counted(folder, write, monkeypatch):
    write.image(folder / '@eaDir/b.jpg/SYNOPHOTO.jpg', seed=1)
    write.image(folder / 'b.png', seed=1)  # a mask beside its image, it may be
    for name in ('x.HEIC', 'y.avif', 'a/z.gif', 'j.jfif', 'k.jp2'):
        (folder / name).write_bytes(b'...')
    (folder / 'shut').mkdir()
    scandir, texts = os.scandir, []

    def closed(path):  # as for a user who may not read it: root may
        if str(path).endswith('shut'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', closed)
    monkeypatch.setattr(unlabeled, 'print_log', lambda text, *_: texts.append(text))
    found = build(data_prefix=dict(img_path=str(folder)))
    assert names(found, folder) == sorted([*EVERYTHING, 'b.png'])
    for said in ('1 folders cannot be read', "shut'", '5 files are images of a kind', 'j.jfif',
                 '1 folders of thumbnails', '@eaDir', "1 images have the name of another"):
        assert sum(said in text for text in texts) == 1, said
    assert check_folder(str(folder)) == (10, [text.split(': ', 2)[2] for text in texts])
    (folder / 'b.png').unlink()
    assert list_items([folder], folder.parent / 'out', warn=texts.append)
    assert [text.split(': ', 1)[1] for text in texts[4:]] == [
        text.split(': ', 2)[2] for text in texts[:3]]


EVERYTHING = ['a/b/d.JPeG', 'a/c.PNG', 'b.jpg', 'e.tif', 'f.TIFF', 'g.webp', 'with space.jpg',
              'z.bmp', 'été/猫.png']


def test_folder(folder):
    dataset = build(data_prefix=dict(img_path=str(folder)))
    assert names(dataset, folder) == EVERYTHING
    info = dataset.get_data_info(0)
    assert 'seg_map_path' not in info and info['seg_fields'] == []


def test_folder_images_load(folder):
    loading = [dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations')]
    dataset = build(data_prefix=dict(img_path=str(folder)), pipeline=loading)
    for i in range(len(dataset)):
        assert dataset[i]['img'].shape == (24, 32, 3)
        assert dataset[i]['gt_seg_map'].shape == (24, 32)


def test_folder_of_one_suffix(folder):
    dataset = build(data_prefix=dict(img_path=str(folder)), img_suffix='c.PNG')
    assert names(dataset, folder) == ['a/c.PNG']


@pytest.mark.skipif(sys.platform == 'win32', reason='links need rights there')
def test_linked_folders_and_circles(folder, tmp_path, write):
    write.image(tmp_path / 'elsewhere' / 'y.png')
    (folder / 'linked').symlink_to(tmp_path / 'elsewhere')
    (folder / 'a' / 'circle').symlink_to(folder)
    dataset = build(data_prefix=dict(img_path=str(folder)))
    assert sorted(names(dataset, folder)) == sorted([*EVERYTHING, 'linked/y.png'])


def test_mask_folder_is_dropped(folder):
    dataset = build(
        data_root=str(folder.parent), data_prefix=dict(img_path='images', seg_map_path='masks'))
    assert set(dataset.data_prefix) == {'img_path'}
    assert len(dataset) == len(EVERYTHING)


@pytest.mark.parametrize('serialize', [True, False])
def test_mmengine_options(folder, serialize):
    args = dict(data_prefix=dict(img_path=str(folder)), serialize_data=serialize)
    assert names(build(indices=2, **args), folder) == EVERYTHING[:2]
    assert names(build(indices=[3, 0], **args), folder) == [EVERYTHING[3], EVERYTHING[0]]
    assert names(build(**args).get_subset([1, 4]), folder) == [EVERYTHING[1], EVERYTHING[4]]
    lazy = build(lazy_init=True, **args)
    assert not lazy._fully_initialized and len(lazy) == len(EVERYTHING)
    copied = pickle.loads(pickle.dumps(build(**args)))
    assert names(copied, folder) == EVERYTHING


def listed(folder, text, encoding='utf-8', **kwargs):
    (folder.parent / 'list.txt').write_bytes(text.encode(encoding))
    return build(
        data_root=str(folder.parent),
        data_prefix=dict(img_path='images'),
        ann_file='list.txt',
        **kwargs)


def test_list_keeps_its_order(folder):
    text = '# ours\nz\r\n\n  a/c  \nété/猫\nb.jpg\nwith space.jpg\na/b/d.JPeG masks/d.png\n'
    expected = ['z.bmp', 'a/c.PNG', 'été/猫.png', 'b.jpg', 'with space.jpg', 'a/b/d.JPeG']
    assert names(listed(folder, text), folder) == expected
    assert names(listed(folder, '\ufeff' + text), folder) == expected


def test_list_with_a_suffix(folder, write):
    write.image(folder / 'town' / 'x_leftImg8bit.png')
    write.image(folder / 'town' / 'y_leftImg8bit.png')
    dataset = listed(
        folder, 'town/x\ntown/y_leftImg8bit.png town/y_gt.png\n', img_suffix='_leftImg8bit.png')
    assert names(dataset, folder) == ['town/x_leftImg8bit.png', 'town/y_leftImg8bit.png']


def test_file_called_like_two_columns(folder, write):
    write.image(folder / 'b.jpg copy.jpg')
    assert names(listed(folder, 'b.jpg copy.jpg\n'), folder) == ['b.jpg copy.jpg']
    assert names(listed(folder, 'b.jpg mask.png\n'), folder) == ['b.jpg']


def test_absolute_paths_without_folder(folder):
    (folder.parent / 'list.txt').write_text(f'{folder}/b.jpg\n')
    assert names(build(ann_file=str(folder.parent / 'list.txt')), folder) == ['b.jpg']


@pytest.mark.parametrize('text, kwargs, error, words', [
    ('b\nq1\nq2\nq3\nq4\n', {}, FileNotFoundError,
     ['4 of the images', 'line 2:', 'q1', 'line 4:', 'and 1 more', 'img_suffix', 'list.txt']),
    ('b\nz\n', dict(img_suffix='.jpg'), FileNotFoundError, ['1 of the images', 'line 2:', 'z.jpg']),
    ('b\nz\nb.jpg\n./b\n', {}, ValueError, ['2 of the entries', 'lines 1 and 3', 'b.jpg']),
    ('# nothing\n\n', {}, ValueError, ['names no image', 'list.txt']),
])
def test_list_errors(folder, text, kwargs, error, words):
    with pytest.raises(error) as caught:
        listed(folder, text, **kwargs)
    for word in words:
        assert word in str(caught.value)


def test_ambiguous_stem(folder, write):
    write.image(folder / 'b.png')
    with pytest.raises(ValueError, match=r"line 2 .*'b'.*b\.jpg and b\.png.*Set img_suffix"):
        listed(folder, 'z\nb\n')
    assert names(listed(folder, 'z.bmp\nb\n', img_suffix='.png'), folder) == ['z.bmp', 'b.png']


def test_not_utf8(folder):
    with pytest.raises(ValueError, match=r'list\.txt.* is not UTF-8.*Save it as UTF-8'):
        listed(folder, 'été\n', encoding='latin-1')


def test_missing_things(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere' does not exist.*data_root"):
        build(data_root=str(tmp_path), data_prefix=dict(img_path='nowhere'))
    with pytest.raises(FileNotFoundError, match=r"lost\.txt' does not exist.*Set ann_file"):
        build(data_root=str(tmp_path), data_prefix=dict(img_path='images'), ann_file='lost.txt')
    with pytest.raises(ValueError, match='neither a folder nor a list'):
        build()
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=r"no image below .*empty' \(looked for \.jpg, \.jpeg"):
        build(data_prefix=dict(img_path=str(tmp_path / 'empty')))


def test_check_files_can_be_left_out(folder):
    dataset = listed(folder, 'b.jpg\nnot_here.jpg\n', check_files=False)
    assert names(dataset, folder) == ['b.jpg', 'not_here.jpg']


def test_other_backend_is_believed(folder, monkeypatch):
    """No look at the local disk when the images are elsewhere; the list comes from there too."""
    from mmengine.fileio import BaseStorageBackend
    from mmengine.fileio.backends import backends

    class Remote(BaseStorageBackend):

        def get(self, filepath):
            raise AssertionError('no image has to be read')

        def get_text(self, filepath, encoding='utf-8'):
            assert filepath == 's3://bucket/list.txt'
            return 'x.jpg\ny.jpg m.png\n'

        def list_dir_or_file(self, dir_path, list_dir=True, list_file=True, suffix=None,
                             recursive=False):
            return iter(['b/2.PNG', '1.jpg', '.h.jpg', 'n.txt'])

    monkeypatch.setitem(backends, 'remote', Remote)
    remote_list = 's3://bucket/list.txt'
    args = dict(
        data_prefix=dict(img_path='s3://bucket/img'), backend_args=dict(backend='remote'))
    paths = [build(ann_file=remote_list, **args).get_data_info(i)['img_path'] for i in range(2)]
    assert paths == ['s3://bucket/img/x.jpg', 's3://bucket/img/y.jpg']
    dataset = build(**args)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert paths == ['s3://bucket/img/1.jpg', 's3://bucket/img/b/2.PNG']
    monkeypatch.setattr(Remote, 'get_text', lambda self, *a, **k: 'stem\n')
    with pytest.raises(ValueError, match="'stem' without a suffix.*Set img_suffix"):
        build(ann_file=remote_list, **args)
