"""What training a config costs: operations, hours and memory, as estimates. Trains nothing.

    python tools/cost.py configs/esl/esl_r50_*.py --tflops 30 --gpus 4

prints a Markdown table. Counted are the operations of convolutions and matrix products in one
forward of the network on a crop, F (two for a multiplication with its addition). A backward pass
costs two forwards, so each image costs 3 F where it trains a network and F where it is only looked
at; how often that is, for labelled and unlabelled images, encoder and decoder apart, the method
says (``passes``). 'GPU hours' divides by a rate that a GPU is assumed to keep up, --tflops.
Validation, data loading and communication are left out. Memory is the doctor's estimate for one of
--gpus, and a fifth.
"""
from __future__ import annotations

import argparse
import sys

from cli_common import program, ready

from mmseg_esl.commands import here


def parse_args():
    parser = argparse.ArgumentParser(
        description=here(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--tflops', type=float, default=30.0,
                        help='rate of one GPU that is assumed, in 10^12 operations a second')
    parser.add_argument('--gpus', type=int, default=4, help='that share a batch (for the memory)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    ready()
    import mmseg_esl.register  # noqa: F401 - registers every component
    from mmseg_esl.doctor.cost import HEAD, row
    print('| ' + ' | '.join(HEAD) + ' |\n|---' + '|--:' * (len(HEAD) - 1) + '|')
    for path in args.configs:
        try:
            cells = row(path, args.tflops, args.gpus)
        except (ValueError, OSError, RuntimeError, KeyError, AttributeError) as error:
            sys.exit(f'{program()}: {path}: {type(error).__name__}: {error}')
        print('| ' + ' | '.join(map(str, cells)) + ' |', flush=True)


if __name__ == '__main__':
    main()
