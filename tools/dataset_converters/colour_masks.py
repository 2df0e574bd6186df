"""Masks that are painted in colours, as masks of class numbers.

    python tools/dataset_converters/colour_masks.py data/mine/painted --out data/mine/masks \
        --classes ground=0,0,0 road=128,64,128 car=0,0,142 ignore=255,255,255

writes a PNG with one class number a pixel for each image below the folder, under its name: ground
is 0, road 1, car 2, and ``ignore`` 255. Without --classes the colours that occur are listed, by
how often, as a line to give names to; nothing is written. A colour that no class has is refused,
with file, colour and place: masks that were saved as JPEG, or resized smoothly, have thousands of
them, and the nearest class would be a guess.
"""
from __future__ import annotations

import argparse
import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
from archives import ConversionError, for_all, main, write
from PIL import Image, UnidentifiedImageError

IGNORE, MOST = 255, 255  # the value that mmseg ignores; classes beside it
SUFFIXES = ('.png', '.bmp', '.tif', '.tiff', '.jpg', '.jpeg', '.webp')
SHOWN = 40  # colours that are listed


def read_colours(path: Path) -> np.ndarray:
    """``(H, W)`` int64: red * 65536 + green * 256 + blue, of any image that Pillow reads.

    Raises:
        ConversionError: it cannot be read; names it.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert('RGB'), np.int64)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConversionError(f"the mask '{path}' cannot be read: {error}") from error
    return pixels @ np.array([65536, 256, 1])


def as_text(colour: int) -> str:
    """'128,64,128'."""
    return f'{colour >> 16},{colour >> 8 & 255},{colour & 255}'


def classes_of(words: list[str]) -> dict[int, int]:
    """``{colour: class}`` of words such as 'road=128,64,128'; the class 'ignore' is 255.

    Raises:
        ConversionError: a word of another form, a colour twice, more than 255 classes.
    """
    out: dict[int, int] = {}
    names: list[str] = []
    for word in words:
        name, _, values = word.rpartition('=')
        parts = values.split(',')
        if not name or len(parts) != 3 or not all(
                part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
            raise ConversionError(f"--classes: '{word}' is not NAME=RED,GREEN,BLUE with numbers "
                                  'from 0 to 255')
        colour = int(parts[0]) << 16 | int(parts[1]) << 8 | int(parts[2])
        if colour in out:
            raise ConversionError(f"--classes: the colour {values} is given twice, the second time "
                                  f"for '{name}'")
        if name != 'ignore' and name not in names:  # a class may have several colours
            names.append(name)
        out[colour] = IGNORE if name == 'ignore' else names.index(name)
    if len(names) > MOST:
        raise ConversionError(f'--classes: {len(names)} classes; masks of 8 bits hold {MOST}')
    return out


def to_indices(colours: np.ndarray, classes: dict[int, int], path: Path) -> np.ndarray:
    """``(H, W)`` uint8 of class numbers.

    Raises:
        ConversionError: a colour that no class has; names file, colour and the first such pixel.
    """
    known = np.array(sorted(classes))
    place = np.searchsorted(known, colours).clip(max=len(known) - 1)
    strange = known[place] != colours
    if strange.any():
        y, x = np.argwhere(strange)[0]
        number = len(np.unique(colours[strange]))
        raise ConversionError(
            f"'{path}' has the colour {as_text(int(colours[y, x]))} at pixel ({x}, {y}), which no "
            f'class has ({number} such colours, {100 * strange.mean():.2g} % of its pixels). Add '
            'it to --classes, as a class or as ignore; if there are hundreds, the masks were '
            'resized smoothly or saved as JPEG: export them again')
    return np.array([classes[colour] for colour in known.tolist()], np.uint8)[place]


def convert_one(path: Path, target: Path, classes: dict[int, int]) -> None:
    out = io.BytesIO()
    Image.fromarray(to_indices(read_colours(path), classes, path)).save(out, 'PNG')
    write(target, out.getvalue())


def list_colours(paths: list[Path]) -> None:
    """Print what --classes could be, the most frequent colours first."""
    found: Counter = Counter()

    def count(path: Path) -> None:
        found.update(dict(zip(*(part.tolist() for part in np.unique(
            read_colours(path), return_counts=True)))))

    for_all(paths, count, 'masks', 1)  # one after another: the counter is shared
    total = sum(found.values())
    print(f'{len(found)} colours in {len(paths)} masks:')
    for colour, pixels in found.most_common(SHOWN):
        print(f'  {as_text(colour):13} {100 * pixels / total:.3g} % of the pixels')
    if len(found) > SHOWN:
        print(f'  and {len(found) - SHOWN} more: masks that were resized smoothly or saved as JPEG '
              'have colours that nobody painted; export them again')
        return
    print('Name them, in the order of the classes:\n  --classes ' + ' '.join(
        f'class{index}={as_text(colour)}' for index, (colour, _) in enumerate(found.most_common())))


def masks_below(folder: Path, out: Path | None) -> dict[Path, Path | None]:
    """``{mask: PNG to write}``, sorted; hidden files are skipped.

    Raises:
        ConversionError: no such folder, nothing in it, two masks for one PNG, or a PNG that would
            take the place of the mask itself.
    """
    if not folder.is_dir():
        raise ConversionError(f"the folder '{folder}' does not exist (or is not a folder)")
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES
                   and not any(part.startswith('.') for part in path.relative_to(folder).parts))
    if not found:
        raise ConversionError(f"no image below '{folder}'")
    if out is None:
        return dict.fromkeys(found)
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise ConversionError(f"--out '{out}' lies in '{folder}': give another folder, so that a "
                              'mask is not taken for a painted one')
    targets = {path: out / path.relative_to(folder).with_suffix('.png') for path in found}
    twice = [path for path, times in Counter(targets.values()).items() if times > 1]
    if twice:
        raise ConversionError(f"two masks below '{folder}' would become '{twice[0]}': rename one")
    return targets


def convert() -> None:
    args = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('masks', type=Path, help='folder of painted masks')
    args.add_argument('--out', type=Path, help='folder for the masks of class numbers')
    args.add_argument('--classes', nargs='+', metavar='NAME=R,G,B', default=[],
                      help="in the order of their numbers; a name twice has two colours; 'ignore' "
                      'is 255 (default: list the colours that occur)')
    args.add_argument('--workers', type=int, default=os.cpu_count() or 1, metavar='N',
                      help='threads (default: one a core)')
    args = args.parse_args()
    classes = classes_of(args.classes)
    targets = masks_below(args.masks, args.out if classes else None)
    if not classes:
        list_colours(list(targets))
        return
    if args.out is None:
        raise ConversionError('--out is missing: the folder for the masks of class numbers')
    for_all(targets.items(), lambda item: convert_one(*item, classes), 'masks', args.workers)
    number = len(set(classes.values()) - {IGNORE})
    print(f"{len(targets)} masks of {number} classes in '{args.out}'")


if __name__ == '__main__':
    main(convert)
