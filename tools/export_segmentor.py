"""Export one network of a training run as a plain checkpoint of mmsegmentation.

``python tools/export_segmentor.py CKPT OUT [--network student]``. OUT loads with ``strict=True``
into the supervised config that was wrapped, where mmseg_esl is not installed.
"""

import argparse
import os
import pickle
import sys

from cli_common import ready

from mmseg_esl.commands import command

KEPT_META = ('dataset_meta', 'iter', 'epoch', 'seed', 'experiment_name', 'time',
             'mmengine_version')


def parse_args():
    parser = argparse.ArgumentParser(
        description='Export one network as a plain mmsegmentation checkpoint.')
    parser.add_argument('checkpoint', help='checkpoint of a training run')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--network', '--from', metavar='NAME',
                        help='which one, such as student (default: the one that predicts)')
    return parser.parse_args()


def export(checkpoint: dict, state: dict) -> dict:
    """Build the plain checkpoint: ``state_dict`` and the ``meta`` that mmseg's inference reads.

    Args:
        checkpoint: of the training run. state: of one of its networks, under plain keys.
    """
    from mmseg_esl.storage.portable import portable
    meta = checkpoint.get('meta', {})
    # cloned, since a view would drag the storage that it looks at into the file
    return {
        'state_dict': type(state)((key, value.detach().cpu().clone())
                                  for key, value in state.items()),
        'meta': {key: portable(meta[key], f'meta[{key!r}]') for key in KEPT_META if key in meta},
    }


def main() -> None:
    args = parse_args()
    ready()
    import torch
    from mmengine.runner.checkpoint import CheckpointLoader

    from mmseg_esl.looks.networks import one_network
    from mmseg_esl.storage.atomic import atomic_file
    from mmseg_esl.storage.keys import networks_in
    if os.path.isdir(args.out):
        sys.exit(f'{args.out} is a folder: give the name of the file to write')
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            args.checkpoint, map_location='cpu', logger='silent')
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        sys.exit(str(error))
    state_dict = checkpoint.get('state_dict')
    if state_dict is None:
        sys.exit(f'{args.checkpoint} has no state_dict: give a checkpoint of a training, by '
                 f'{command("train")}')
    if not networks_in(state_dict):
        sys.exit(f"{args.checkpoint} is a plain segmentor's checkpoint already (no NAME.backbone.* "
                 'in it): use it as it is')
    try:
        name, state = one_network(checkpoint, args.network)
    except ValueError as error:
        sys.exit(f'{args.checkpoint}: {error} (--network)')
    content = export(checkpoint, state)
    try:
        with atomic_file(args.out) as file:
            torch.save(content, file)
    except OSError as error:
        sys.exit(f'{args.out} cannot be written: {error}')
    print(f"wrote the {name} ({len(state)} tensors) to {args.out}")


if __name__ == '__main__':
    main()
