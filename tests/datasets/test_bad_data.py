"""Files that cannot be used, each kind made on disk; and those that only look odd."""

import copy
import logging
import os
import shutil
from multiprocessing.reduction import ForkingPickler

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmseg.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from mmseg_esl.datasets import BadDataError, bad_samples, checks
from mmseg_esl.datasets.file_check import content_problem

PIXELS = cv2.GaussianBlur(np.random.RandomState(3).randint(0, 255, (24, 32, 3), np.uint8),
                          (0, 0), 2)
LABEL = (np.arange(24 * 32).reshape(24, 32) % 3).astype(np.uint8)


def jpeg(path, **options):
    Image.fromarray(PIXELS).save(path, 'JPEG', quality=95, **options)
    return path.read_bytes()


def png(path, array=PIXELS):
    assert cv2.imwrite(str(path), array)
    return path.read_bytes()


def flip(data, places):
    data = bytearray(data)
    for place in places:
        data[place] ^= 0x55
    return bytes(data)


def cut(path, share, **options):
    data = jpeg(path, **options)
    path.write_bytes(data[:int(len(data) * share)])


def replace(path, make):
    path.unlink()
    make(path)


def flipped_png(path):
    data = png(path)
    path.write_bytes(flip(data, [len(data) // 2]))


# kind -> (which file of sample 1, what happens to it, what the message has to say)
IMAGE, MASK = 'img/a1.jpg', 'ann/a1.png'
BAD = {
    'missing': (IMAGE, lambda p: p.unlink(), 'does not exist'),
    'empty': (IMAGE, lambda p: p.write_bytes(b''), 'it is empty'),
    'text': (IMAGE, lambda p: p.write_text('<html>404'), 'no readable image'),
    'directory': (IMAGE, lambda p: replace(p, os.mkdir), 'is a directory'),
    'broken link': (IMAGE, lambda p: replace(p, lambda q: q.symlink_to('nowhere.jpg')),
                    "broken link to 'nowhere.jpg'"),
    'half a JPEG': (IMAGE, lambda p: cut(p, 0.5), 'truncated'),
    'JPEG without its last bytes': (IMAGE, lambda p: cut(p, 0.98), 'truncated'),
    'half a progressive JPEG': (IMAGE, lambda p: cut(p, 0.7, progressive=True), 'truncated'),
    'JPEG with a flipped header': (
        IMAGE, lambda p: p.write_bytes(flip(jpeg(p), range(2, 200))), 'truncated|no readable'),
    'half a PNG': (IMAGE, lambda p: p.write_bytes(png(p.with_suffix('.png'))[:900]), 'truncated'),
    'PNG with a flipped byte': (IMAGE, lambda p: p.write_bytes(
        flip(png(p.with_suffix('.png')), [800])), 'damaged .*IDAT'),
    'missing mask': (MASK, lambda p: p.unlink(), 'does not exist'),
    'half a mask': (MASK, lambda p: p.write_bytes(p.read_bytes()[:150]), 'truncated'),
    'flipped mask': (MASK, flipped_png, 'damaged'),
    'RGB mask': (MASK, lambda p: png(p), '3 channels.*palette-indexed'),
    'mask with alpha': (MASK, lambda p: Image.fromarray(np.dstack([LABEL, LABEL]), 'LA').save(p),
                        '2 channels'),
    'mask of another size': (MASK, lambda p: png(p, np.zeros((48, 64), np.uint8)),
                             r'\(48, 64\) for an image of \(24, 32\)'),
    'labels out of range': (MASK, lambda p: png(p, LABEL + 1), 'label values 3, but the classes'),
    'one label out of range': (MASK, lambda p: png(p, np.where(
        np.arange(768).reshape(24, 32) == 767, 77, LABEL).astype(np.uint8)), 'label values 77'),
    '16-bit mask': (MASK, lambda p: png(p, LABEL.astype(np.uint16) + 256), 'from 256 to 258'),
}


@pytest.fixture
def said(monkeypatch):
    """What this process logs; mmengine's loggers keep the stream of whoever came first."""
    texts = []
    for module in (checks, bad_samples):
        monkeypatch.setattr(module, 'print_log', lambda text, *_: texts.append(text))
    return texts


def build(data, **changes):
    return DATASETS.build(dict(data.semi_cfg(), **changes))


@pytest.mark.parametrize('kind', list(BAD))
def test_bad(data, kind, caplog):
    name, spoil, words = BAD[kind]
    path = data.root / name
    with caplog.at_level(logging.CRITICAL):
        spoil(path)
    semi = build(data, check_files=False)
    for _ in range(2):  # a second look is no kinder than the first
        with pytest.raises(BadDataError, match=words) as caught:
            semi[1]
        assert str(path) in str(caught.value) and 'on_error' in str(caught.value)
    semi[0], semi[4]

    semi = build(data, on_error='skip', max_skips=1)
    seen = [semi[i]['data_samples'] for i in (0, 1, 2, 3, 1, 10)]
    image = str(data.root / IMAGE)
    assert [os.path.basename(s.img_path)[:2] for s in seen] == ['a0', 'a2', 'a2', 'a3', 'a2', 'b6']
    assert semi.bad_samples.skipped() == [image]
    with pytest.raises(BadDataError, match='more than max_skips=0') as caught:
        build(data, on_error='skip', max_skips=0)[1]
    assert image in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_is_said_at_the_start(data):
    (data.root / IMAGE).unlink()
    with pytest.raises(FileNotFoundError, match=r'a1\.jpg'):
        build(data)
    (data.root / 'img/b2.jpg').unlink()
    semi = build(data, on_error='skip')  # not at the start, then: it is counted when it is read
    assert [os.path.basename(semi[i]['data_samples'].img_path) for i in (1, 6)] == ['a2.jpg',
                                                                                    'b3.jpg']
    assert len(semi.bad_samples.skipped()) == 2


# ------------------------------------------------------------------ odd, and read as they should


def loaded(data, **changes):
    """Sample 1 as loaded, with no geometry: image (H, W, 3) BGR and label map."""
    labeled = data.labeled_cfg(**changes)
    labeled['pipeline'] = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                           dict(type='PackSegInputs')]
    item = build(data, labeled=labeled)[1]
    return item['inputs'].permute(1, 2, 0).numpy(), item['data_samples'].gt_sem_seg.data[0].numpy()


def grey(path):
    Image.fromarray(PIXELS[..., 0]).save(path, quality=95)
    return np.repeat(PIXELS[..., :1], 3, 2)


def cmyk(path):
    Image.fromarray(PIXELS).convert('CMYK').save(path, quality=95)
    return PIXELS[..., ::-1]


def alpha(path):
    Image.fromarray(np.dstack([PIXELS, LABEL * 99])).save(path, 'PNG')
    return PIXELS[..., ::-1]


def sixteen(path):
    deep = PIXELS.astype(np.uint16) * 256 + 200
    path.write_bytes(cv2.imencode('.png', deep)[1].tobytes())
    return PIXELS  # the high byte, whatever the low one holds


def tail(path):
    path.write_bytes(jpeg(path) + b'camera data')
    return PIXELS[..., ::-1]


def thumbnail(path):
    small = b'Exif\0\0' + jpeg(path)  # a complete JPEG, end marker included, in a header segment
    data = jpeg(path)
    segment = b'\xff\xe1' + (len(small) + 2).to_bytes(2, 'big') + small
    path.write_bytes(data[:2] + segment + data[2:])
    assert content_problem(path.read_bytes()) is None
    assert 'truncated' in content_problem(path.read_bytes()[:-300])
    return PIXELS[..., ::-1]


@pytest.mark.filterwarnings('ignore:.*mode:DeprecationWarning')
@pytest.mark.parametrize('make', [grey, cmyk, alpha, sixteen, tail, thumbnail],
                         ids=lambda f: f.__name__)
def test_images_that_are_fine(data, make):
    wanted = make(data.root / IMAGE).astype(int)
    image, _ = loaded(data)
    worst = np.abs(image.astype(int) - wanted).max()
    assert worst <= (0 if make in (alpha, sixteen) else 12), worst  # JPEG, smooth, quality 95


def palette(path):
    image = Image.fromarray(LABEL).convert('P')
    image.putpalette([v for c in ((9, 9, 9), (200, 0, 0), (0, 200, 0)) for v in c])
    image.putdata(LABEL.flatten().tolist())
    image.save(path)
    assert Image.open(path).mode == 'P'
    return LABEL


def one_bit(path):
    Image.fromarray(LABEL > 1).save(path)
    return (LABEL > 1).astype(np.uint8)


def small_16_bit(path):
    png(path, LABEL.astype(np.uint16))
    return LABEL


def partly_ignored(path):
    label = LABEL.copy()
    label[1:] = 255
    png(path, label)
    return label


@pytest.mark.parametrize('make', [palette, one_bit, small_16_bit, partly_ignored],
                         ids=lambda f: f.__name__)
def test_masks_that_are_fine(data, make):
    wanted = make(data.root / MASK)
    assert (loaded(data)[1] == wanted).all()


def test_sixteen_bits_are_said_once(data, said):
    sixteen(data.root / IMAGE)
    sixteen(data.root / 'img/a2.jpg')
    semi = build(data)
    for index in (1, 1, 2):
        semi[index]
    assert len(said) == 1 and '16 bits a channel' in said[0] and 'a1.jpg' in said[0]


def test_small_image_is_padded_to_the_crop(data):
    """Smaller than the crop: it stays whole, the preprocessor pads, and 255 says where."""
    from mmseg.models.data_preprocessor import SegDataPreProcessor
    data.geometry = lambda: [dict(type='RandomCrop', crop_size=(30, 40))]
    semi = build(data, labeled=data.labeled_cfg(), unlabeled=data.unlabeled_cfg())
    batch = pseudo_collate([semi[1], semi[5]])
    done = SegDataPreProcessor(size=(30, 40), pad_val=0, seg_pad_val=255)(batch, training=True)
    assert done['inputs'].shape == (2, 3, 30, 40)
    for image, sample in zip(done['inputs'], done['data_samples']):
        label = sample.gt_sem_seg.data[0]
        inside = torch.zeros(30, 40, dtype=torch.bool)
        inside[:24, :32] = True
        assert ((label == 255) == ~inside).all()
        assert (image[:, ~inside] == 0).all() and (image[:, inside] > 0).any()


def test_wide_image(data):
    wide = np.zeros((16, 20000, 3), np.uint8)
    wide[:, 19990:] = 77
    data.root.joinpath(IMAGE).write_bytes(cv2.imencode('.png', wide)[1].tobytes())
    png(data.root / MASK, (wide[..., 0] > 0).astype(np.uint8))
    image, label = loaded(data)
    assert image.shape == wide.shape and (image == wide).all()
    assert (label == (wide[..., 0] > 0)).all()


def test_name_that_is_not_ascii(data):
    name = 'Straße 北京 é'
    for folder, suffix in (('img', '.jpg'), ('ann', '.png')):
        shutil.copy(data.root / folder / f'a1{suffix}', data.root / folder / f'{name}{suffix}')
    plain = loaded(data)
    data.write_list('labeled.txt', ['a0', name])
    for got, wanted in zip(loaded(data), plain):
        assert (got == wanted).all()
    (data.root / 'img' / f'{name}.jpg').write_bytes(b'')
    with pytest.raises(BadDataError, match=name):
        build(data)[1]


def test_a_mask_without_a_class_is_normal_and_said_once(data, said):
    """Tiles without foreground; masks whose classes label_map leaves out."""
    for name in ('a1', 'a2'):
        png(data.root / f'ann/{name}.png', np.full_like(LABEL, 255))
    semi = build(data)
    assert [int((semi[i]['data_samples'].gt_sem_seg.data != 255).sum()) for i in (1, 2)] == [0, 0]
    assert sum('has no labelled pixel' in text for text in said) == 1


def test_lists_with_a_byte_order_mark_or_no_files_are_named(data):
    path = data.root / 'labeled.txt'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    with pytest.raises(ValueError, match=r'labeled\.txt.*byte-order mark.*without'):
        build(data)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r'labeled\.txt.*no regular file'):
        build(data)


def test_a_pipe_in_the_place_of_an_image_is_not_read(data):
    semi = build(data)
    replace(data.root / IMAGE, os.mkfifo)
    with pytest.raises(BadDataError, match=r'a1\.jpg.*no regular file'):
        semi[1]


def test_ignore_empty_is_not_silent(data):
    """mmcv's option takes another image without a word, and misses half a file anyway."""
    cfg = data.labeled_cfg()
    cfg['pipeline'][0]['ignore_empty'] = True
    for spoil in (lambda p: p.write_text('no image'), lambda p: cut(p, 0.5)):
        spoil(data.root / IMAGE)
        with pytest.raises(BadDataError, match=r'a1\.jpg'):
            build(data, labeled=copy.deepcopy(cfg))[1]


# ----------------------------------------------------------------------------------- counting


def spoil_some(data, names=('a1', 'b0', 'b1')):
    for name in names:
        (data.root / f'img/{name}.jpg').write_bytes(b'')


def test_replacement_is_deterministic_and_from_the_same_list(data):
    spoil_some(data)
    semi = build(data, on_error='skip', max_skips=3)

    def sample(index):
        np.random.seed(index)
        return semi[index]

    first = {i: sample(i) for i in (1, 4, 10)}
    assert [os.path.basename(v['data_samples'].img_path) for v in first.values()] == [
        'a2.jpg', 'b2.jpg', 'b6.jpg']
    assert [v['data_samples'].labeled for v in first.values()] == [True, False, False]
    fresh = build(data, on_error='skip', max_skips=3)
    for index, stand_in in ((1, 2), (4, 6)):  # the same random numbers, known to be bad or not
        np.random.seed(index)
        other = fresh[stand_in]
        for again in (sample(index), other):
            assert torch.equal(again['inputs'], first[index]['inputs'])


def test_the_last_of_a_list_goes_round(data):
    spoil_some(data, ('a3', 'b6'))
    semi = build(data, on_error='skip')
    names = [os.path.basename(semi[i]['data_samples'].img_path) for i in (3, 10)]
    assert names == ['a0.jpg', 'b0.jpg']


def test_nothing_left(data):
    spoil_some(data, data.labeled)
    with pytest.raises(BadDataError, match='no image of the labelled set can be used'):
        build(data, on_error='skip')[0]


@pytest.mark.parametrize('workers', [0, 2])
def test_count_over_workers(data, workers, said):
    spoil_some(data)
    semi = build(data, on_error='skip', max_skips=3,
                 labeled=dict(type='RepeatDataset', times=2, dataset=data.labeled_cfg()))
    loader = DataLoader(semi, batch_size=3, num_workers=workers, collate_fn=list)
    got = [item['data_samples'].img_path for _ in range(2) for batch in loader for item in batch]
    assert len(got) == 30 and not any(name in path for path in got for name in ('a1', 'b0', 'b1'))
    skipped = [os.path.basename(p) for p in semi.bad_samples.skipped()]
    assert skipped == ['a1.jpg', 'b0.jpg', 'b1.jpg']
    if not workers:  # two workers may meet one file at the same moment
        assert [text[-20:] for text in said] == [f'out: {n} of at most 3]' for n in (1, 2, 3)]

    spoil_some(data, ['b4'])
    with pytest.raises(BadDataError, match='4 images cannot be used.*max_skips=3') as caught:
        for _ in DataLoader(build(data, on_error='skip', max_skips=3), batch_size=3,
                            num_workers=workers, collate_fn=list):
            pass
    for name in ('a1', 'b0', 'b1', 'b4'):
        assert f'{name}.jpg' in str(caught.value)


def test_spawned_workers_share_the_count(data):
    semi = build(data, on_error='skip')
    sent = ForkingPickler.loads(ForkingPickler.dumps(semi))  # as a spawned worker receives it
    sent.bad_samples.bad[2] = 1
    assert semi.bad_samples.bad.tolist() == [0, 0, 1] + [0] * 8


def test_options(data):
    for options in (dict(on_error='ignore'), dict(max_skips=-1)):
        with pytest.raises(ValueError, match=next(iter(options))):
            build(data, **options)


def test_setup_errors_are_not_skipped(data):
    cfg = data.labeled_cfg()
    cfg['pipeline'].pop()
    with pytest.raises(TypeError, match='PackSegInputs'):
        build(data, labeled=cfg, on_error='skip')[0]
