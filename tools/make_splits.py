r"""Lists of labelled and unlabelled images: import published ones, draw your own, check them.

    python tools/make_splits.py verify --lists UniMatch/splits
    python tools/make_splits.py import UniMatch/splits --protocol cityscapes-unimatch \
        --out data/cityscapes/splits
    python tools/make_splits.py generate --images data/mine/images --masks data/mine/masks \
        --shares 1/16 1/8 --out data/mine/splits

Exit status: 0 all is well, 1 a list has a problem, 2 the tool could not work.
"""
from __future__ import annotations

import argparse
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli_common import program, ready

from mmseg_esl.commands import here
from mmseg_esl.progress import track
from mmseg_esl.splits import published
from mmseg_esl.splits.generate import absent_classes, nested_partitions, partition_size, rounded
from mmseg_esl.splits.lists import folder_ids, image_id, write_ids
from mmseg_esl.splits.protocol import describe, is_published, protocol_of
from mmseg_esl.splits.verify import files_of, missing_files, not_listed, verify_folder
from mmseg_esl.terminal import say


def parse_args():
    parser = argparse.ArgumentParser(description=here(__doc__),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)

    add = commands.add_parser('import', help='write published lists in our style')
    add.add_argument('lists', help='folder with the lists of UniMatch, U2PL, CPS, ST++ or your own')
    add.add_argument('--out', required=True, type=Path, help='where PROTOCOL/PARTITION/'
                     '{labeled,unlabeled}.txt go; with --protocol PARTITION/...')
    add.add_argument('--protocol', choices=list(published.PROTOCOLS), help='import this one alone')
    add.add_argument('--images', metavar='DIR', help='folder of all training images: where there '
                     'is no unlabelled list (COCO), it is the rest of this folder')
    add.add_argument('--img-suffix', help='of the images there (default: any image)')

    draw = commands.add_parser('generate', help='draw nested partitions that hold every class')
    draw.add_argument('--images', required=True, help='folder of images')
    draw.add_argument('--masks', required=True, type=Path, help='folder of masks; an image without '
                      'a mask is always unlabelled')
    draw.add_argument('--shares', nargs='+', default=['1/16', '1/8', '1/4', '1/2'],
                      metavar='SHARE', help='of the images with masks, or numbers of them')
    draw.add_argument('--seed', type=int, default=0)
    draw.add_argument('--img-suffix', help='such as _leftImg8bit.png (default: any image)')
    draw.add_argument('--mask-suffix', default='.png')
    draw.add_argument('--ignore', type=int, nargs='*', default=[255], metavar='VALUE',
                      help='mask values that are no class (default: 255)')
    draw.add_argument('--out', required=True, type=Path)

    check = commands.add_parser('verify', help='name protocols, check lists and files')
    check.add_argument('--lists', required=True, help='folder with lists')
    check.add_argument('--data-root', help="mmseg's data_root: are all files there?")
    check.add_argument('--img-dir', help='below it, for lists of your own')
    check.add_argument('--img-suffix', default='.jpg', help='with --img-dir (default: .jpg)')
    check.add_argument('--mask-dir', default='', help='with --img-dir')
    check.add_argument('--mask-suffix', default='.png', help='with --img-dir (default: .png)')
    check.add_argument('--manifest', metavar='FILE', help='write the checksums of all files that '
                       'the lists name; needs --data-root')

    make = commands.add_parser('registry', help='make the registry of checksums again')
    make.add_argument('--lists', required=True, help='folder with unimatch/, u2pl/, cps/, stpp/; '
                      'mmseg_esl/splits/published.py says which folder of theirs')
    make.add_argument('--out', type=Path, help='file to write (default: print it)')
    return parser.parse_args()


def run_import(args) -> int:
    reports = [report for report in verify_folder(args.lists) if report.labeled
               and 'labeled' in report.path.name]
    images = set(folder_ids(args.images, args.img_suffix)) if args.images else None
    bad, written = 0, set()
    for report in reports:
        if report.unlabeled is None and images is not None:
            report.unlabeled = not_listed(report, images)
            report.name = protocol_of(report.labeled, report.unlabeled)
            report.problems += _not_there(report, images)
        protocol, _, partition = report.name.partition('/')
        if args.protocol not in (None, protocol):
            continue
        if report.problems:
            bad += 1
            _say(report)
            continue
        if report.unlabeled is None:
            warn(f'{report.path}: no unlabelled list; --images makes it')
        folder = args.out / (partition if args.protocol else _folder(report, args.lists))
        write_ids(folder / 'labeled.txt', sorted(report.labeled))
        if report.unlabeled is not None:
            write_ids(folder / 'unlabeled.txt', sorted(report.unlabeled))
        if folder not in written:
            say(f'{folder}: {report}')
        written.add(folder)
    if not written and not bad:
        raise ValueError(f"below '{args.lists}' there is no pair of lists"
                         + (f' of {args.protocol}' if args.protocol else ''))
    return int(bad > 0)


def _not_there(report, images) -> list[str]:
    gone = [name for name in report.labeled if name not in images]
    return [f'{len(gone)} labelled images are not in --images, such as {gone[0]}'] if gone else []


def _folder(report, lists) -> str:
    """PROTOCOL/PARTITION, or for lists of no published protocol their place below ``lists``."""
    if is_published(report.name):
        return report.name
    place = report.path.relative_to(lists)
    stem = re.sub('[_-]?labeled', '', place.stem).strip('_-')
    return str(place.with_name(stem) if stem else place.parent)


def run_generate(args) -> int:
    images = folder_ids(args.images, args.img_suffix)
    _refuse_other_names(images, args.images)
    masks = {name: args.masks / (name + args.mask_suffix) for name in images}
    masks = {name: path for name, path in masks.items() if path.is_file()}
    if not masks:
        raise ValueError(f"no image has a mask in '{args.masks}': looked for such as "
                         f"'{args.masks / (images[0] + args.mask_suffix)}'. Correct "
                         '--masks or --mask-suffix')
    for share in args.shares:
        partition_size(len(masks), share)  # before minutes of reading
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda path: mask_classes(path, args.ignore), masks.values())
        classes = dict(zip(masks, track(found, 'masks', len(masks))))
    for share, chosen in nested_partitions(classes, args.shares, args.seed).items():
        folder, taken = args.out / share.replace('/', '-'), set(chosen)
        absent = absent_classes(classes, chosen)
        if absent:
            warn(f'{folder} holds no image of {len(absent)} classes: '
                 f'{", ".join(map(str, absent))}. Take a larger share')
        rest = sorted(name for name in images if name not in taken)
        write_ids(folder / 'labeled.txt', chosen)
        if rest:
            write_ids(folder / 'unlabeled.txt', rest)
        else:  # a list that names nothing is refused by all who read it
            (folder / 'unlabeled.txt').unlink(missing_ok=True)
        name = protocol_of(map(image_id, chosen), map(image_id, rest))
        say(f'{folder}: {rounded(len(classes), share)} labelled, {len(rest)} unlabelled, seed '
            f'{args.seed}; ' + describe(name))
    return 0


def _refuse_other_names(images, folder) -> None:
    """Names that a list would not give back: of them verify, and the protocol, would know nothing.

    Raises:
        ValueError: there are some; says what to do.
    """
    strange = [name for name in images
               if image_id(name) != name or name.startswith('#') or len(name.splitlines()) > 1]
    if strange:
        raise ValueError(f"below '{folder}' a list would read '{strange[0]}' back as "
                         f"'{image_id(strange[0])}' ({len(strange)} of {len(images)} names). Give "
                         '--images the folder that these names are relative to, or rename them')


def mask_classes(path: Path, ignore) -> set[int]:
    """The classes of a mask file. Raises ValueError, with its path, where it cannot be read."""
    import numpy as np
    from PIL import Image
    try:
        with Image.open(path) as image:  # PIL, as mmseg: it gives a palette's numbers
            mask = np.asarray(image)
    except OSError as error:
        raise ValueError(f"the mask '{path}' cannot be read: {error}") from error
    if mask.ndim != 2:
        raise ValueError(f"the mask '{path}' has {mask.shape[2]} channels; one is needed, with a "
                         'class number in each pixel')
    return set(np.unique(mask).tolist()) - set(ignore)


def run_verify(args) -> int:
    reports = verify_folder(args.lists)
    layout = args.img_dir and published.Layout(args.img_dir, args.img_suffix, args.mask_dir,
                                              args.mask_suffix)
    for report in reports:
        if args.data_root and '/' in report.name:
            missing = missing_files(report, args.data_root, layout)
            if missing:
                report.problems.append(f'{len(missing)} files do not exist, such as {missing[0]}')
            if layout and report.unlabeled is not None:
                rest = not_listed(report, folder_ids(
                    Path(args.data_root) / args.img_dir, args.img_suffix))
                if rest:
                    warn(f'{report.path}: {len(rest)} images of {args.img_dir} are in '
                         f'neither list, such as {rest[0]}')
        _say(report)
    bad = sum(bool(report.problems) for report in reports)
    if args.manifest and not bad:
        write_checksums(args, layout, [report for report in reports if '/' in report.name])
    print(f'{len(reports) - bad} lists or pairs are in order'
          + (f', {bad} are not' if bad else ''))
    return int(bad > 0)


def write_checksums(args, layout, reports) -> None:
    if not args.data_root:
        raise ValueError('--manifest needs --data-root: the files to read')
    ready(status=2)
    from mmseg_esl.datasets.manifest import write_manifest
    files = {str(path) for report in reports
             for path in files_of(report, args.data_root, layout or None)}
    number = write_manifest(args.manifest, files,
                            lambda found: track(found, 'checksums', len(files)))
    print(f'wrote the checksums of {number} files to {args.manifest}')


def _say(report) -> None:
    say(f'{report.path}: {report}')
    for problem in report.problems:
        say(f'    problem: {problem}', hang=4)


def warn(text: str) -> None:
    say(f'warning: {text}', file=sys.stderr)


def run_registry(args) -> int:
    table = published.make_rows(args.lists)
    if not table:
        raise ValueError(f"below '{args.lists}' there is none of the folders unimatch, u2pl, cps "
                         'and stpp with lists in them')
    text = published.to_csv(table)
    if args.out is None:
        sys.stdout.write(text)
        return 0
    args.out.write_text(text, encoding='utf-8')
    print(f'wrote {len(table)} lists to {args.out}')
    return 0


def main() -> None:
    args = parse_args()
    commands = {'import': run_import, 'generate': run_generate, 'verify': run_verify,
                'registry': run_registry}
    try:
        status = commands[args.command](args)
    except (OSError, ValueError) as error:
        say(f'{program()}: {error}', file=sys.stderr)
        sys.exit(2)
    sys.exit(status)


if __name__ == '__main__':
    main()
