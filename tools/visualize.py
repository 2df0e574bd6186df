"""The paper's pictures of a checkpoint.

    python tools/visualize.py my_esl.py iter_40000.pth

    --what dominant    how many classes compete at each pixel, and one pixel's probabilities
           entropy     of the probabilities
           parts       part grouping
           pairs       an anchor of the contrast, its positives and negatives
           compare     two checkpoints, or one's networks, and where they are wrong
           embedding   t-SNE of part features
           all         whatever the checkpoint allows (default)

Works with checkpoints of any method and of plain segmentors; what the network sees that labels is
shown (a teacher, if there is one). docs/pictures.md shows the pictures.
"""

import argparse
import pickle
import sys
from pathlib import Path

from cli_common import add_cfg_options, config_file, program, ready, train_nothing

from mmseg_esl.commands import here
from mmseg_esl.terminal import say


def parse_args():
    parser = argparse.ArgumentParser(
        description=here(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: of a method, or of a plain segmentor')
    parser.add_argument('--what', nargs='+', default=['all'], metavar='KIND',
                        help='one or more of those above (default: all)')
    parser.add_argument('--images', nargs='+', metavar='PATH',
                        help="files or folders (default: the first of the config's validation set)")
    parser.add_argument('--masks', nargs='+', metavar='PATH', default=[],
                        help='truth of the given images: files or folders, same stems')
    parser.add_argument('--limit', type=int, default=6, metavar='N',
                        help='most images of a folder or of the validation set (default: 6)')
    parser.add_argument('--out', type=Path, help="folder for the PNGs (default: 'pictures' beside "
                        'the checkpoint, where the report of the run looks for them)')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument('--pixel', type=int, nargs=2, metavar=('X', 'Y'),
                        help='pixel of dominant and pairs (default: found in each image)')
    parser.add_argument('--with', nargs='+', dest='other', metavar='PATH', default=[],
                        help="[CONFIG] CKPT to compare with (default: the checkpoint's networks)")
    parser.add_argument('--palette', choices=['safe', 'dataset'], default='safe',
                        help="colours of the classes: safe for colour-blind readers, or the data "
                             "set's own")
    add_cfg_options(parser)
    parser.add_argument('--dumped', action='store_true',
                        help='the config is the dump of a run: read it as data, never run it')
    args = parser.parse_args()
    if len(args.other) > 2:
        parser.error('--with takes a checkpoint, or a config and a checkpoint')
    if args.limit < 1:
        parser.error(f'--limit must be at least 1, got {args.limit}')
    return args


def read_config(name: str, args):
    from mmengine.config import Config

    from mmseg_esl.storage.dumped import read_buildable
    if args.dumped:
        cfg = Config(read_buildable(name, print))
    else:
        cfg = Config.fromfile(config_file(name))
    cfg.merge_from_dict(args.cfg_options or {})
    return cfg


def find_scenes(cfg, args) -> list:
    """The images; of folders and the validation set the first --limit."""
    from mmseg_esl.looks.scenes import file_scenes, list_files, validation_scenes
    if not args.images:
        return validation_scenes(cfg, args.limit)
    files = []
    for path in args.images:
        found = list_files([path])
        files += found[:args.limit]
        if len(found) > args.limit:
            say(f'{path}: the first {args.limit} of {len(found)} images (see --limit)')
    return file_scenes(cfg, files, list_files(args.masks))


def pictures_of(checkpoint: str) -> Path:
    """The folder of a checkpoint's pictures where none is given: in the work folder of its run."""
    if '://' in checkpoint:
        raise ValueError(f'{checkpoint} lies on no disk: say where the pictures go, with --out')
    return Path(checkpoint).parent / 'pictures'


def draw(args) -> None:
    from mmseg_esl.looks.album import KINDS, Album
    from mmseg_esl.looks.scenes import load_trained
    for kind in args.what:
        if kind not in (*KINDS, 'all'):
            raise ValueError(f'--what {kind}: choose of {", ".join(KINDS)}, all')
    out = args.out or pictures_of(args.checkpoint)
    cfg = read_config(args.config, args)
    trained, other = load_trained(cfg, args.checkpoint, args.device), None
    if args.other:
        second = read_config(args.other[0], args) if len(args.other) == 2 else cfg
        other = load_trained(second, args.other[-1], args.device)
    album = Album(trained, find_scenes(cfg, args), out, other, args.pixel, args.palette)
    kinds = list(dict.fromkeys(args.what))
    if 'all' in kinds:
        reasons = {kind: album.impossible(kind) for kind in KINDS}
        for kind, reason in reasons.items():
            if reason:
                say(f'no {kind} picture: {reason}')
        kinds = [kind for kind in KINDS if not reasons[kind]]
    for paths in album.draw(kinds).values():
        for path in paths:
            print(path)


def main() -> None:
    args = parse_args()
    ready()
    train_nothing()
    try:
        draw(args)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        sys.exit(f'{program()}: {error}')


if __name__ == '__main__':
    main()
