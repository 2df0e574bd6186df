"""Export a segmentor as an ONNX graph: RGB images of bytes in, logits or classes out.

    python tools/export_onnx.py my_esl.py iter_40000.pth model.onnx --size 512 1024
    python tools/export_onnx.py supervised.py teacher.pth model.onnx --dynamic --argmax

Input: `image`, N x 3 x H x W uint8, RGB, as decoded: the graph normalises. Output: `logits`,
N x C x H x W float32 of the input's size, or with --argmax `classes`, N x H x W int64. Class names,
colours, mean, std and the test size stand in the file's metadata. Needs onnx, onnxscript (torch
from 2.6 on) and onnxruntime for the check: pip install 'mmseg_esl[onnx]'.
"""
from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile

from cli_common import add_cfg_options, config_file, program, ready, train_nothing

from mmseg_esl.commands import here
from mmseg_esl.terminal import say

TOLERANCE = 1e-3  # of the largest logit
AGREEMENT = 0.999  # of the classes: a tie may fall either way


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=here(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config, of a method or of a plain segmentor')
    parser.add_argument('checkpoint', help='checkpoint, of either')
    parser.add_argument('out', help='file to write')
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='size of the images')
    size.add_argument('--dynamic', action='store_true', help='leave the size open')
    parser.add_argument('--network', metavar='NAME',
                        help="which of a method's networks, such as student (default: as the "
                             'config says)')
    parser.add_argument('--argmax', action='store_true', help='classes in place of logits')
    parser.add_argument('--no-check', dest='check', action='store_false',
                        help='do not compare the graph in onnxruntime with torch')
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.size and min(args.size) < 1:
        parser.error(f'--size must be positive, got {args.size}')
    return args


def check(deployed, path, args) -> str:
    """Compare the graph at ``path`` with torch on random images; returns what was found.

    Raises:
        RuntimeError: they differ.
    """
    from mmseg_esl.predict.graph import compare, noise
    sizes = [args.size] if args.size else [(136, 200), (96, 160), (64, 96)]
    images = [noise(deployed, number, size) for size in sizes for number in (1, 2)]
    try:
        difference, agreement = compare(deployed, path, images)
        close = args.argmax or difference <= TOLERANCE  # not so if it is nan
        if not close or agreement < AGREEMENT:
            raise RuntimeError(f'logits differ by {difference:.1e} of the largest (at most '
                               f'{TOLERANCE}), classes agree on {agreement:.2%} of the pixels (at '
                               f'least {AGREEMENT:.1%})')
    except RuntimeError as error:
        hint = 'another torch' if args.size else 'a fixed --size'
        raise RuntimeError(f'the graph is not the network and was not written: {error}. Try {hint}'
                           ) from error
    logits = '' if args.argmax else f', logits differ by {difference:.1e} of the largest'
    return f'onnxruntime and torch: classes agree on {agreement:.4%} of the pixels{logits}'


def run(args) -> None:
    from mmseg_esl.predict import load_segmentor
    from mmseg_esl.predict.graph import Deployed, export, resize_rule
    segmentor = load_segmentor(config_file(args.config), args.checkpoint, 'cpu', args.network,
                               args.cfg_options)
    deployed = Deployed(segmentor, args.argmax)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(args.out))) as folder:
        draft = os.path.join(folder, 'draft.onnx')  # beside it, so that it can be renamed
        export(deployed, draft, args.size and tuple(args.size))
        found = check(deployed, draft, args) if args.check else 'not compared with torch'
        os.replace(draft, args.out)
    print(f"wrote {args.out}: {args.size or 'any size'}, {'classes' if args.argmax else 'logits'}")
    say(found)
    rule, others = resize_rule(segmentor, args.size)
    if rule:
        say(f'images are to be resized before the graph: {rule} (metadata, resize); '
            'docs/predict.md shows how')
    if others:
        say(f'the test pipeline also does {", ".join(others)}: the graph does not')
    test = segmentor.test_cfg or {}
    if test.get('mode') == 'slide':
        say(f"the config predicts by windows of {tuple(test['crop_size'])} with stride "
            f"{tuple(test['stride'])}: the graph is one window, cutting and averaging is yours")
    if segmentor.data_preprocessor.test_cfg:
        say(f'the config pads images ({segmentor.data_preprocessor.test_cfg}): the graph does not')


def main() -> None:
    args = parse_args()
    ready()
    train_nothing()
    try:
        run(args)
    except ImportError as error:
        sys.exit(f"{program()}: {error}. pip install onnx onnxscript onnxruntime, or "
                 '--no-check where only onnxruntime is missing')
    except (ValueError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        sys.exit(f'{program()}: {error}')


if __name__ == '__main__':
    main()
