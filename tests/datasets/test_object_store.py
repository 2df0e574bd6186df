"""Images and lists on a file backend of mmengine, which here is a folder under another name."""
from pathlib import Path

import pytest
from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.backends.registry_utils import backends, prefix_to_backends
from mmseg.registry import DATASETS

from mmseg_esl.datasets.seeding import Draw


@pytest.fixture
def store(data, monkeypatch):
    """``bucket://`` is the data's folder; what has been read of it."""
    read = []

    class Bucket(LocalBackend):
        def get(self, filepath):
            read.append(str(filepath))
            return super().get(str(filepath).replace('bucket:/', str(data.root)))

        def get_text(self, filepath, encoding='utf-8'):
            return self.get(filepath).decode(encoding)

        def list_dir_or_file(self, dir_path, *args, **kwargs):
            return super().list_dir_or_file(str(dir_path).replace('bucket:/', str(data.root)),
                                            *args, **kwargs)

    monkeypatch.setattr('mmengine.fileio.io.backend_instances', {})  # it keeps those of others
    register_backend('bucket', Bucket, prefixes='bucket')
    yield read
    del backends['bucket'], prefix_to_backends['bucket']


@pytest.mark.parametrize('ann_file', ['', 'bucket://unlabeled.txt'])
def test_unlabelled_images_of_a_store(data, store, ann_file):
    """They are the local ones, pixel by pixel, damaged files are named, nothing local is read."""
    args = dict(data_root=None, ann_file=ann_file, img_suffix='.jpg',
                data_prefix=dict(img_path='bucket://img'))
    found = DATASETS.build(data.semi_cfg(allow_overlap=True, unlabeled=data.unlabeled_cfg(**args)))
    local = DATASETS.build(data.semi_cfg(allow_overlap=True, unlabeled=data.unlabeled_cfg(
        ann_file=ann_file and 'unlabeled.txt', img_suffix='.jpg')))
    assert found.num_unlabeled == local.num_unlabeled == (7 if ann_file else 11)
    for i in range(len(found)):
        draw = Draw(i, 1, 0, i)
        assert (found[draw]['inputs'] == local[draw]['inputs']).all()
    images = {path for path in store if path.startswith('bucket://img/')}
    assert len(images) == found.num_unlabeled
    Path(data.root / 'img/b3.jpg').write_bytes(b'\xff\xd8\xff')
    again = DATASETS.build(data.semi_cfg(allow_overlap=True, unlabeled=data.unlabeled_cfg(**args)))
    with pytest.raises(ValueError, match='bucket://img/b3.jpg.*truncated'):
        [again[i] for i in range(len(again))]
