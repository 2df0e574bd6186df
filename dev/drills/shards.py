"""What do tar shards cost before the first step, and in each? Prints a table.

    python dev/drills/shards.py --images 1000000 100000000

Ten real shards of 10 000 PNG files of one pixel are written and indexed; the others are hard links
to them and to their indexes. So a hundred million images are ten thousand shards for the code, and
10 MB for the page cache: reads from the disk itself are not measured. Start: UnlabeledShards in a
SemiDataset, and the checksum of a resumed run. Each row comes from a process of its own.
"""
from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from scale import MB, alone, measured, memory, row, seconds

REAL, PER_SHARD = 10, 10_000


def write_shards(root: Path) -> dict:
    """Ten shards with their indexes in ``root/real``; seconds, and bytes of an index's row."""
    import numpy as np
    from PIL import Image

    from mmseg_esl.datasets.tar_files import INDEX_SUFFIX, TarIndex, write_index
    folder, times = root / 'real', []
    folder.mkdir()
    for shard in range(REAL):
        with tarfile.open(folder / f'{shard}.tar', 'w') as tar:
            for number in range(PER_SHARD):
                out = io.BytesIO()
                if number % 100 == 0:  # a hundred different images in a shard
                    Image.fromarray(np.full((1, 1, 3), number // 100 + shard, np.uint8)).save(
                        out, 'PNG')
                    data = out.getvalue()
                member = tarfile.TarInfo(f'photos/{shard:04d}/{number:08d}.png')
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        index, begun = f'{folder}/{shard}.tar{INDEX_SUFFIX}', time.process_time()
        write_index(f'{folder}/{shard}.tar', index)
        times.append(time.process_time() - begun)
    return dict(index=sum(times) / REAL, row=TarIndex(index).rows.itemsize)


def link(root: Path, count: int) -> Path:
    folder = root / str(count)
    folder.mkdir()
    for shard in range(count // PER_SHARD):
        for suffix in ('.tar', '.tar.index.npy'):
            os.link(root / f'real/{shard % REAL}{suffix}', folder / f'{shard:06d}{suffix}')
    return folder


def one(root: Path, folder: Path) -> dict:
    import tiny
    from mmengine.dataset import InfiniteSampler
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS
    from torch.utils.data import DataLoader

    from mmseg_esl.datasets import SemiBatchSampler
    from mmseg_esl.engine.resume.fingerprint import _listed
    init_default_scope('mmseg')
    tiny.write_data(root / f'labelled {folder.name}', labeled=2, unlabeled=0)
    reading = [dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations')]
    labeled = tiny.data_cfg(root / f'labelled {folder.name}', ann_file='labeled.txt',
                            pipeline=[dict(type='LoadAnnotations')])
    out = {}
    with measured(out, 'start'):
        semi = DATASETS.build(dict(type='SemiDataset', labeled=labeled, unlabeled=dict(
            type='UnlabeledShards', data_prefix=dict(img_path=str(folder)),
            pipeline=[*reading, dict(type='PackSegInputs')])))
        _listed(semi.unlabeled)
    out['flags'] = 2 * len(semi) / MB  # of images looked at, and of bad ones: a byte each

    def batches(start=0, state=None):
        sampler = SemiBatchSampler(InfiniteSampler(semi, seed=0), 4, 2, 2)
        if state is not None:
            sampler.load_state_dict(state)
        sampler.set_start(start)
        return sampler

    sampler = batches()
    with measured(out, 'first batch'):
        sampler.batch(0)
    with measured(out, 'thousand batches'):
        drawn = [sampler.batch(t) for t in range(1000)]
    resumed = batches(600, sampler.state_dict(600))
    out['resumed alike'] = [resumed.batch(t) for t in range(600, 1000)] == drawn[600:]

    def read(sampler, count):
        loader = DataLoader(semi, batch_sampler=sampler, num_workers=2, collate_fn=_values)
        return [values for values, _ in zip(loader, range(count))]

    whole = read(batches(), 60)
    out['resumed images alike'] = whole[40:] == read(batches(40, sampler.state_dict(40)), 20)
    with measured(out, 'thousand images'):
        for draw in (draw for batch in drawn[:500] for draw in batch[2:]):
            semi[draw]
    out['held'] = memory('VmRSS')
    return out


def _values(items) -> list:
    return [(item['data_samples'].img_path, int(item['inputs'].sum())) for item in items[2:]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', nargs='+', type=int, default=[1_000_000, 100_000_000])
    args, good = parser.parse_args(), True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = alone(write_shards, root)
        print(f'index of {PER_SHARD} images: {made["index"]:.2f} s cpu, {made["row"]} bytes an '
              'image\n')
        row('images', 'shards', 'start, s cpu (wall)', 'its peak, MB', 'flags, MB',
            'first batch, ms', 'a batch, ms', 'an image, ms', 'resumed alike')
        row(*['---'] * 9)
        for count in args.images:
            found = alone(one, root, link(root, count))
            alike = found['resumed alike'] and found['resumed images alike']
            good &= alike and found['start']['wall'] < 60
            row(count, count // PER_SHARD, seconds(found['start']),
                f'{found["start"]["peak"]:.0f}', f'{found["flags"]:.0f}',
                f'{1e3 * found["first batch"]["cpu"]:.2f}',
                f'{found["thousand batches"]["cpu"]:.3f}',
                f'{found["thousand images"]["cpu"]:.2f}', 'yes' if alike else 'NO')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
