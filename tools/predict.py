"""Masks for images: a trained model, a folder, and PNG files come out.

    python tools/predict.py work_dirs/my_esl photos/ --out masks
    python tools/predict.py my_esl.py iter_40000.pth photos/ one_more.jpg --save index,overlay
    python tools/predict.py supervised.py teacher.pth photos/ --tile 1024 1024 --overlap 256

The model is the folder of a training run (its config and newest checkpoint are taken; a checkpoint
may be named after it), or a config and a checkpoint. Of a method's networks that one predicts which
is evaluated (semi_test_cfg.predict_on); --network names another.
Exit status: 0, or 1 if images were left out because they cannot be read, or 2 for anything else.
"""
from __future__ import annotations

import argparse
import os.path as osp
import pickle
import sys

from cli_common import add_cfg_options, config_file, program, ready, train_nothing

from mmseg_esl.commands import here
from mmseg_esl.terminal import columns, fitted, say

KINDS = ('index', 'color', 'overlay')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=here(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter,
        usage='%(prog)s (WORK_DIR [CHECKPOINT] | CONFIG CHECKPOINT) IMAGE_OR_FOLDER... [options]')
    parser.add_argument('paths', nargs='+', metavar='PATH', help='the model, then images, folders')
    parser.add_argument('--out', default='predictions',
                        help='folder that mirrors the images (default: %(default)s)')
    parser.add_argument('--save', type=kinds, default=['index'], metavar='KIND[,KIND...]',
                        help='index: class indices as a palette PNG (default); color: RGB; '
                             'overlay: painted over the image. Several go to OUT/KIND')
    parser.add_argument('--network', metavar='NAME',
                        help="which of a method's networks, such as student (default: as the "
                             'config says)')
    parser.add_argument('--device', default='auto', help='cpu, cuda, cuda:1, or auto (default)')
    parser.add_argument('--batch', type=positive, default=1, metavar='N',
                        help='neighbouring images of equal size in one forward; with --tile '
                             'windows')
    parser.add_argument('--tile', type=positive, nargs=2, metavar=('H', 'W'),
                        help='sliding windows, for large images')
    parser.add_argument('--overlap', type=int, metavar='PIXELS',
                        help='of windows (default: a third of the shorter side)')
    parser.add_argument('--tta', action='store_true',
                        help='test-time augmentation: the config\'s, else flips and three scales')
    parser.add_argument('--opacity', type=float, default=0.5, help='of overlays, in (0, 1]')
    parser.add_argument('--skip-existing', action='store_true',
                        help='leave out images whose results are there, which are replaced '
                             'otherwise')
    add_cfg_options(parser, '; to be given last')
    args = parser.parse_intermixed_args(argv)
    args.model, args.images = split(args.paths, parser)
    if not 0 < args.opacity <= 1:
        parser.error(f'--opacity must be in (0, 1], got {args.opacity}')
    if args.overlap is not None and args.tile is None:
        parser.error('--overlap needs --tile')
    return args


def split(paths: list, parser) -> tuple:
    """(work folder or config, and checkpoint if one is named) and the images."""
    named = len(paths) > 1 and paths[1].endswith(('.pth', '.pt'))
    if not osp.isdir(paths[0]) and not named:
        parser.error(f"'{paths[0]}' is no folder of a training run, and no checkpoint (.pth) "
                     'follows it as it must follow a config')
    model, images = paths[:1 + named], paths[1 + named:]
    if not images:
        parser.error('no images: give a folder, or images, after the model')
    return model, images


def kinds(text: str) -> list:
    found = list(dict.fromkeys(text.split(',')))
    wrong = [kind for kind in found if kind not in KINDS]
    if wrong:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(wrong)!r}: choose of "
                                         + ','.join(KINDS))
    return found


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no number above 0')
    return int(text)


def find_model(model: list, warn) -> tuple:
    """(config, checkpoint) of the command line."""
    from mmseg_esl.predict import config_in, from_work_dir
    if not osp.isdir(model[0]):
        return config_file(model[0]), model[1]
    if len(model) > 1:
        return config_in(model[0], warn), model[1]
    return from_work_dir(model[0], warn)


def load_model(args, device: str, warn) -> tuple:
    """The checkpoint's path, and its segmentor.

    A training that goes on may replace the newest one of its folder before it is read.
    """
    from mmseg_esl.predict import load_segmentor
    from mmseg_esl.storage.resumable import TRIES

    for left in reversed(range(TRIES)):
        config, checkpoint = find_model(args.model, warn)
        try:
            return checkpoint, load_segmentor(config, checkpoint, device, args.network,
                                              args.cfg_options)
        except FileNotFoundError:
            if not left or len(args.model) > 1 or osp.exists(checkpoint):
                raise


def run(args, console):
    """Predict; returns the Summary."""
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from mmseg_esl.predict import Masker, Painter, list_items, predict
    from mmseg_esl.progress import Lines

    def warn(text):
        console.print(fitted(text, width=columns(sys.stderr)), markup=False)

    items = list_items(args.images, args.out, args.save, warn)
    device = args.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    checkpoint, segmentor = load_model(args, device, warn)
    masker = Masker(segmentor, args.tile, args.overlap, args.tta, args.batch)
    painter = Painter(**segmentor.dataset_meta, opacity=args.opacity, read=masker.read)
    warn(f'{checkpoint} on {device}: {len(items)} images to {args.out}')
    lines = Lines('images', len(items), warn)
    shown = BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[rate]}')
    with Progress(*shown, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task('', total=len(items), rate='')

        def advance():
            bar.advance(task)
            if not console.is_terminal:
                lines.advance()
            speed = bar.tasks[0].speed
            bar.update(task, rate=f'{speed:.1f} images/s' if speed else '')

        return predict(items, masker, painter, args.batch, args.skip_existing, advance, warn)


def main() -> None:
    args = parse_args()
    ready(status=2)
    from rich.console import Console
    train_nothing()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        found = run(args, console)
    except (ValueError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        say(f'{program()}: {error}', file=sys.stderr)
        sys.exit(2)
    already = f', {found.existing} were there already' if found.existing else ''
    broken = f', {len(found.broken)} could not be read' if found.broken else ''
    print(f'{found.written} images predicted{already}{broken}')
    sys.exit(1 if found.broken else 0)


if __name__ == '__main__':
    main()
