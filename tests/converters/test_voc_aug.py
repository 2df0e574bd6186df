"""voc_aug.py on a VOC and an SBD of a few images."""

import io
import signal
import tarfile

import numpy as np
import pytest
from PIL import Image
from trees import contents, tree

scipy_io = pytest.importorskip('scipy.io')

TRAIN, VAL = [f'2007_{i:06d}' for i in range(6)], [f'2008_{i:06d}' for i in range(3)]
AUG = [f'2009_{i:06d}' for i in range(40)]


def jpg(value):
    out = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(out, 'JPEG')
    return out.getvalue()


def labels(name, source):
    """The label map that ``source`` has of an image."""
    rng = np.random.default_rng([int(name.replace('_', '')), source == 'sbd'])
    return rng.integers(0, 21, (6, 8)).astype(np.uint8)


def palette_png(array):
    image, out = Image.fromarray(array).convert('P'), io.BytesIO()
    image.putdata(array.ravel())
    image.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
    image.save(out, 'PNG')
    return out.getvalue()


def mat(array):
    out = io.BytesIO()
    scipy_io.savemat(out, {'GTcls': {'Segmentation': array, 'Boundaries': np.zeros(3),
                                     'CategoriesPresent': np.unique(array)}})
    return out.getvalue()


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def archives(tmp_path):
    """As distributed: SBD has masks of VOC's images too, and lists that hold VOC's val."""
    with tarfile.open(tmp_path / 'voc.tar', 'w') as tar:
        for name in [*TRAIN, *VAL, *AUG, '2010_000001']:  # VOC has images without masks
            add(tar, f'VOCdevkit/VOC2012/JPEGImages/{name}.jpg', jpg(int(name[-2:])))
            add(tar, f'VOCdevkit/VOC2012/Annotations/{name}.xml', b'<x/>')
        for name in TRAIN + VAL:
            add(tar, f'VOCdevkit/VOC2012/SegmentationClass/{name}.png',
                palette_png(labels(name, 'voc')))
        for part, names in (('train', TRAIN), ('val', VAL), ('trainval', TRAIN + VAL)):
            add(tar, f'VOCdevkit/VOC2012/ImageSets/Segmentation/{part}.txt',
                '\n'.join(names).encode())
    with tarfile.open(tmp_path / 'sbd.tgz', 'w:gz') as tar:
        for name in TRAIN[:4] + VAL[:1] + AUG:
            add(tar, f'benchmark_RELEASE/dataset/cls/{name}.mat', mat(labels(name, 'sbd')))
            add(tar, f'benchmark_RELEASE/dataset/inst/{name}.mat', b'no mat file')
        add(tar, 'benchmark_RELEASE/dataset/train.txt', '\n'.join(TRAIN[:4] + AUG[:9]).encode())
        add(tar, 'benchmark_RELEASE/dataset/val.txt', '\n'.join(VAL[:1] + AUG[9:]).encode())
    return tmp_path / 'voc.tar', tmp_path / 'sbd.tgz'


def test_masks_and_lists(archives, tmp_path, call):
    args = ('voc_aug', *archives, '--out', tmp_path / 'out')
    said = call(*args, '--no-count-check')
    assert '6 train, 3 val, 40 aug, 46 trainaug' in said
    root = tmp_path / 'out/VOC2012'
    for name in TRAIN + VAL + AUG:  # VOC's own masks where there are any
        source = 'sbd' if name in AUG else 'voc'
        for folder in ['SegmentationClassAug'] + ['SegmentationClass'] * (source == 'voc'):
            with Image.open(root / folder / f'{name}.png') as image:
                np.testing.assert_array_equal(np.asarray(image), labels(name, source))
    lists = root / 'ImageSets/Segmentation'
    assert (lists / 'aug.txt').read_text().split() == AUG
    assert (lists / 'trainaug.txt').read_text().split() == TRAIN + AUG
    assert len(list((root / 'JPEGImages').iterdir())) == 50
    assert not (root / 'Annotations').exists()
    before = tree(tmp_path / 'out')
    call(*args, '--no-count-check')
    assert tree(tmp_path / 'out') == before  # nothing was written again
    said = call(*args, status=1)
    assert '6 train instead of 1464; 3 val instead of 1449' in said and 'no-count-check' in said


def test_interrupted_then_resumed(archives, tmp_path, call, interrupt):
    args = ('voc_aug', *archives, '--no-count-check', '--out')
    call(*args, tmp_path / 'whole')
    out = tmp_path / 'out'
    status, said = interrupt(signal.SIGINT, 2, out, 'VOC2012/SegmentationClassAug/2009_*.png',
                             *args, out)
    assert status == 1 and 'the same command goes on' in said
    before = tree(out)
    assert 0 < len(before) < len(tree(tmp_path / 'whole'))
    call(*args, out)
    after = tree(out)
    assert {name: after[name] for name in before} == before
    assert contents(out) == contents(tmp_path / 'whole')


def test_half_a_download(archives, tmp_path, call):
    voc, sbd = archives
    args = ('voc_aug', voc, sbd, '--no-count-check', '--out', tmp_path / 'out')
    damaged = "'{}' is damaged or was not downloaded to its end"
    # a tar that ends between two members says nothing of it
    for path, end, words in ((voc, 700, damaged.format(voc)), (voc, 1024 * 20, 'to its end?'),
                             (sbd, 2000, damaged.format(sbd))):
        whole = path.read_bytes()
        assert len(whole) > end
        path.write_bytes(whole[:end])
        assert words in call(*args, status=1)
        path.write_bytes(whole)
    call(*args)
    assert len(list((tmp_path / 'out/VOC2012/SegmentationClassAug').glob('*'))) == 49


def test_what_does_not_belong_together(archives, tmp_path, call):
    voc, sbd = archives
    out = ('--no-count-check', '--out', tmp_path / 'out')
    assert "'no.tar' does not exist" in call('voc_aug', 'no.tar', sbd, *out, status=1)
    assert 'was not in the archive' in call('voc_aug', sbd, sbd, *out, status=1)
    with tarfile.open(sbd, 'w:gz') as tar:
        add(tar, 'benchmark_RELEASE/dataset/train.txt', b'2019_000000')
        add(tar, 'benchmark_RELEASE/dataset/val.txt', b'')
    assert '1 images are missing' in call('voc_aug', voc, sbd, *out, status=1)
    for data, words in ((b'no mat file', 'class files'), (mat(np.full((2, 2), 21)), 'up to 21')):
        with tarfile.open(sbd, 'w:gz') as tar:
            add(tar, f'benchmark_RELEASE/dataset/cls/{AUG[0]}.mat', data)
        said = call('voc_aug', voc, sbd, *out, status=1)
        assert words in said and f'{AUG[0]}.mat' in said


def test_no_mask_of_sbd_stands_in_for_one_of_voc(archives, tmp_path, call):
    """A VOC archive without one of its masks: SBD has one of that image, which is another."""
    voc, sbd = archives
    with tarfile.open(voc) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    del members[f'VOCdevkit/VOC2012/SegmentationClass/{TRAIN[0]}.png']
    with tarfile.open(voc, 'w') as tar:
        for name, data in members.items():
            add(tar, name, data)
    said = call('voc_aug', voc, sbd, '--no-count-check', '--out', tmp_path / 'out', status=1)
    assert '1 masks are missing' in said and f'{TRAIN[0]}.png' in said
