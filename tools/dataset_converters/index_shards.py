"""Where the images of tar shards lie, for UnlabeledShards: an index beside each tar.

    python tools/dataset_converters/index_shards.py data/shards --jobs 8

writes data/shards/*.tar.index.npy; --out puts them elsewhere, where the shards cannot be written
to. Shards that have an index of their size are passed over, so an interrupted run goes on. Only the
headers are read. Shards of an object store are indexed where a copy lies on a disk.
"""
from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def index_one(tar: Path, folder: Path, again: bool) -> int:
    """Number of images of a tar, whose index is written if there is no good one."""
    from mmseg_esl.datasets.tar_files import INDEX_SUFFIX, TarIndex, write_index
    index = folder / (tar.name + INDEX_SUFFIX)
    try:
        if not again and (found := TarIndex(str(index))).tar_size == tar.stat().st_size:
            return len(found)
    except (FileNotFoundError, ValueError):
        pass
    return write_index(str(tar), str(index))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--out', type=Path, help='default: the folder itself')
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--again', action='store_true', help='also where there is an index')
    args = parser.parse_args(argv)
    tars, out = sorted(args.folder.glob('*.tar')), args.out or args.folder
    if not tars:
        print(f"no *.tar in '{args.folder}'", file=sys.stderr)
        return 1
    jobs = [tars, [out] * len(tars), [args.again] * len(tars)]
    try:
        if args.jobs > 1:
            with ProcessPoolExecutor(args.jobs) as pool:
                total = sum(pool.map(index_one, *jobs, chunksize=8))
        else:
            total = sum(map(index_one, *jobs))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f'{total} images in {len(tars)} shards')
    return 0


if __name__ == '__main__':
    sys.exit(main())
