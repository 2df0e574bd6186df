"""Export the teacher or the student as a plain checkpoint of mmsegmentation.

``python tools/export_segmentor.py CKPT OUT [--from teacher|student]``. OUT loads with
``strict=True`` into the supervised config that was wrapped, where mmseg_esl is not installed.
"""

import argparse
import os
import sys
import tempfile

import cli_common  # noqa: F401 - finds the package and mends the stack
import numpy as np
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmseg_esl.checkpoint import is_wrapper, to_plain

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


def plain_types(value):
    """Reduce a value to what ``torch.load(weights_only=True)`` reads: numbers, text, containers.

    Raises:
        TypeError: a type that has no plain form; it is named.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {plain_types(key): plain_types(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(plain_types(item) for item in value)
    raise TypeError(f'{type(value).__name__} in the meta data of the checkpoint has no plain form')


def export(checkpoint: dict, which: str) -> dict:
    """Build the plain checkpoint: ``state_dict`` and the ``meta`` that mmseg's inference reads."""
    state = to_plain(checkpoint['state_dict'], which)
    meta = checkpoint.get('meta', {})
    # cloned, since a view would drag the storage that it looks at into the file
    return {
        'state_dict': type(state)((key, value.detach().cpu().clone())
                                  for key, value in state.items()),
        'meta': {key: plain_types(meta[key]) for key in KEPT_META if key in meta},
    }


def save_atomically(content: dict, path: str) -> None:
    """Write a file completely or not at all: temporary file beside it, fsync, rename."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix='.export-', suffix='.pth')
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it readable by its owner only
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def main() -> None:
    args = parse_args()
    if os.path.isdir(args.out):
        sys.exit(f'{args.out} is a folder: give the name of the file to write')
    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
    state_dict = checkpoint.get('state_dict')
    if state_dict is None:
        sys.exit(f'{args.checkpoint} has no state_dict: give a checkpoint that train.py wrote')
    if not is_wrapper(state_dict):
        sys.exit(f"{args.checkpoint} is a plain segmentor's checkpoint already (no student.* and "
                 'teacher.* in it): use it as it is')
    content = export(checkpoint, args.which)
    save_atomically(content, args.out)
    print(f"wrote the {args.which} ({len(content['state_dict'])} tensors) to {args.out}")


if __name__ == '__main__':
    main()
