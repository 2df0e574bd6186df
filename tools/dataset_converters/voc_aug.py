"""PASCAL VOC 2012 with SBD's additional masks, from the two archives as they are distributed.

    python tools/dataset_converters/voc_aug.py VOCtrainval_11-May-2012.tar benchmark.tgz \
        --out data/VOCdevkit

writes, below OUT/VOC2012, what mmseg's configs expect: JPEGImages, SegmentationClass, and in
ImageSets/Segmentation train.txt (1464), val.txt (1449), aug.txt (9118) and trainaug.txt (10582).
SegmentationClassAug holds a mask of all of them: VOC's own for train and val, SBD's for the others.
That is the usual 'blender' set, and its part in train.txt the 'classic' one, so one folder serves
both (mmseg's converter puts SBD's masks of VOC's images there too, which lack the void borders).
"""
from __future__ import annotations

import io
import re
from pathlib import Path

from archives import (
    ConversionError,
    check_counts,
    check_present,
    is_copied,
    main,
    parser,
    stream_tar,
    write,
)

WANTED = dict(train=1464, val=1449, aug=9118, trainaug=10582)
_VOC = re.compile(r'(?:^|/)VOC2012/((JPEGImages|SegmentationClass|ImageSets/Segmentation)/'
                  r'[\w.-]+\.(?:jpg|png|txt))$')
_SBD_LIST = re.compile(r'(?:^|/)dataset/(?:train|val)\.txt$')
_SBD_MASK = re.compile(r'(?:^|/)dataset/cls/(\w+)\.mat$')


def extract_voc(archive, root: Path) -> None:
    """Images, masks and lists; the masks into both folders."""
    for name, size, read in stream_tar(archive):
        match = _VOC.search(name)
        if match is None:
            continue
        targets = [root / match.group(1)]
        if match.group(2) == 'SegmentationClass':
            targets.append(root / 'SegmentationClassAug' / targets[0].name)
        missing = [path for path in targets if not is_copied(path, size)]
        data = read() if missing else b''
        for path in missing:
            write(path, data)


def extract_sbd(archive, root: Path, own: set) -> set:
    """SBD's masks of images that VOC has none of; returns the names in SBD's two lists."""
    listed: set = set()
    for name, _, read in stream_tar(archive):
        mask = _SBD_MASK.search(name)
        if _SBD_LIST.search(name):
            listed.update(read().decode().split())
        elif mask and mask.group(1) not in own:
            path = root / 'SegmentationClassAug' / f'{mask.group(1)}.png'
            if not path.is_file():
                write(path, mat_to_png(read(), name))
    return listed


def mat_to_png(data: bytes, name: str) -> bytes:
    """The label map ``GTcls.Segmentation`` of one of SBD's files, (H, W) uint8, as PNG."""
    from PIL import Image
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError
    try:
        labels = loadmat(io.BytesIO(data))['GTcls'][0]['Segmentation'][0]
    except (MatReadError, KeyError, ValueError, IndexError, TypeError) as error:
        raise ConversionError(f"'{name}' is not one of SBD's class files ({error})") from error
    if labels.ndim != 2 or labels.max() > 20:
        raise ConversionError(f"'{name}': labels of shape {labels.shape} up to {labels.max()}; "
                              "expected (H, W) up to 20, VOC's classes")
    out = io.BytesIO()
    Image.fromarray(labels.astype('uint8')).save(out, 'PNG')
    return out.getvalue()


def read_list(root: Path, name: str) -> set:
    path = root / f'ImageSets/Segmentation/{name}.txt'
    if not path.is_file():
        raise ConversionError(f"'{path}' was not in the archive: is it VOCtrainval_11-May-2012"
                              '.tar, and downloaded to its end?')
    return set(path.read_text().split())


def write_list(root: Path, name: str, ids: set) -> None:
    path, text = root / f'ImageSets/Segmentation/{name}.txt', ''.join(f'{i}\n' for i in sorted(ids))
    if not path.is_file() or path.read_text() != text:
        write(path, text.encode())


def convert() -> None:
    args = parser(__doc__.splitlines()[0])
    args.add_argument('voc', help='VOCtrainval_11-May-2012.tar')
    args.add_argument('sbd', help='benchmark.tgz, of the Semantic Boundaries Dataset')
    args.add_argument('--out', type=Path, default=Path('data/VOCdevkit'))
    args = args.parse_args()
    need_scipy()
    root = args.out / 'VOC2012'
    extract_voc(args.voc, root)
    train, val = read_list(root, 'train'), read_list(root, 'val')
    aug = extract_sbd(args.sbd, root, train | val) - train - val
    trainaug = train | aug
    write_list(root, 'aug', aug)
    write_list(root, 'trainaug', trainaug)
    for names, folder, suffix, what in (
            (trainaug | val, 'JPEGImages', '.jpg', 'images'),
            (trainaug | val, 'SegmentationClassAug', '.png', 'masks')):
        check_present(sorted(names), root / folder, suffix, what)
    check_counts({name: len(ids) for name, ids in dict(
        train=train, val=val, aug=aug, trainaug=trainaug).items()}, WANTED, args.no_count_check)


def need_scipy() -> None:
    try:
        import scipy.io  # noqa: F401
    except ImportError as error:
        raise ConversionError("SBD's masks are MATLAB files, which need scipy: pip install scipy "
                              "(or pip install 'mmseg_esl[data]')") from error


if __name__ == '__main__':
    main(convert)
