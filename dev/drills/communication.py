"""What does one training step send to the other ranks? Prints a table; exits with 1 over the limit.

    python dev/drills/communication.py --ranks 2 4 --classes 21 81

Five iterations of the real Runner with all hooks on CPU processes (gloo), of which the last three
are counted: every collective, those of DistributedDataParallel's C++ too. The network is the
paper's (DeepLabV3+, ResNet-50, projector 512 wide, K = 5) on images of 32 x 32, whose size no
collective depends on; ``--classes 0`` takes a tiny network.

Given: bytes that one rank brings to its collectives. Ring: bytes that it sends where they go
round a ring, as NCCL does with large ones: 2 (W - 1) / W of an all-reduce, W - 1 times what it
gives to a gather.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ranks import launch

MOST_FOR_PARTS = 5  # collectives a step


def measure(ranks: int, classes: int, timeout: float) -> dict:
    """Calls and bytes of one step by purpose, and the sizes they follow from."""
    with tempfile.TemporaryDirectory() as folder:
        return launch('communication', ranks, Path(folder), classes, timeout)


def table(found: dict) -> str:
    """The purposes as a Markdown table."""
    purposes = found['purposes']
    rows = sorted(purposes.items(), key=lambda item: -item[1][1])
    rows.append(('all', [sum(v[i] for v in purposes.values()) for i in range(3)]))
    lines = ['| purpose | calls | given, kB | ring, kB |', '|---|--:|--:|--:|']
    return '\n'.join(lines + [f'| {name} | {calls:g} | {given / 1e3:.2f} | {ring / 1e3:.2f} |'
                              for name, (calls, given, ring) in rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ranks', nargs='+', type=int, default=[2, 4])
    parser.add_argument('--classes', nargs='+', type=int, default=[21, 81])
    parser.add_argument('--timeout', type=float, default=3600, help='seconds for each run')
    args = parser.parse_args()
    good = True
    for classes in args.classes:
        for ranks in args.ranks:
            found = measure(ranks, classes, args.timeout)
            good &= found['purposes']['parts'][0] <= MOST_FOR_PARTS
            print(f'\n{ranks} ranks, 2 + 2 images each, {classes or 3} classes, '
                  f'{found["parameters"] / 1e6:.1f} M trained parameters, per step:\n\n'
                  f'{table(found)}\n', flush=True)
        print(f'synchronised batch norm (GPUs only, not run) would add two collectives for each '
              f'of {found["norm_layers"]} layers, {found["norm_channels"]} channels in all',
              flush=True)
    print('within the limit' if good else f'MORE THAN {MOST_FOR_PARTS} COLLECTIVES FOR PARTS')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
