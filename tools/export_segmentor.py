"""Export the teacher or the student as a plain checkpoint of mmsegmentation.

``python tools/export_segmentor.py CKPT OUT [--from teacher|student]``. OUT loads with
``strict=True`` into the supervised config that was wrapped, where mmseg_esl is not installed.
"""

import argparse
import os
import pickle
import sys

import cli_common  # noqa: F401 - finds the package and mends the stack
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmseg_esl.semi.keys import is_wrapper, to_plain
from mmseg_esl.storage.atomic import atomic_file
from mmseg_esl.storage.portable import portable

KEPT_META = ('dataset_meta', 'iter', 'epoch', 'seed', 'experiment_name', 'time',
             'mmengine_version')


def parse_args():
    parser = argparse.ArgumentParser(
        description='Export the teacher or the student as a plain mmsegmentation checkpoint.')
    parser.add_argument('checkpoint', help='checkpoint of a training run')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--from', dest='which', choices=['teacher', 'student'], default='teacher',
                        help='which network (default: teacher)')
    return parser.parse_args()


def export(checkpoint: dict, which: str) -> dict:
    """Build the plain checkpoint: ``state_dict`` and the ``meta`` that mmseg's inference reads."""
    state = to_plain(checkpoint['state_dict'], which)
    meta = checkpoint.get('meta', {})
    # cloned, since a view would drag the storage that it looks at into the file
    return {
        'state_dict': type(state)((key, value.detach().cpu().clone())
                                  for key, value in state.items()),
        'meta': {key: portable(meta[key], f'meta[{key!r}]') for key in KEPT_META if key in meta},
    }


def main() -> None:
    args = parse_args()
    if os.path.isdir(args.out):
        sys.exit(f'{args.out} is a folder: give the name of the file to write')
    try:
        checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
    except (FileNotFoundError, RuntimeError, pickle.UnpicklingError) as error:
        sys.exit(str(error))
    state_dict = checkpoint.get('state_dict')
    if state_dict is None:
        sys.exit(f'{args.checkpoint} has no state_dict: give a checkpoint that train.py wrote')
    if not is_wrapper(state_dict):
        sys.exit(f"{args.checkpoint} is a plain segmentor's checkpoint already (no student.* and "
                 'teacher.* in it): use it as it is')
    content = export(checkpoint, args.which)
    with atomic_file(args.out) as file:
        torch.save(content, file)
    print(f"wrote the {args.which} ({len(content['state_dict'])} tensors) to {args.out}")


if __name__ == '__main__':
    main()
