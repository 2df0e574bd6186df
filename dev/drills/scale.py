"""What a large run costs before its first step: the lists' index, and the K-means start of parts.

    python dev/drills/scale.py --images 118000 1000000 --classes 21 81

* index: the real UnlabeledDataset in a SemiDataset, over a list of so many images in folders of a
  thousand. The files are there, but empty and linked to each other: nothing is decoded. Start-up
  by list with and without a look for each file, and by walking the folder; the batch sampler; and
  what a loader worker holds of its own after reading the index. Linux only.
* parts: PartInitHook's sample and clustering on made-up features, 2048 wide, as from a ResNet-50:
  labels in blocks, features as noise around ten directions a class. No network runs.

Each row is measured in a process of its own. Times are of one thread, 'cpu' as the process counts
them and 'wall' with what the machine did besides.
"""
from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]
MB, PER_FOLDER = 2 ** 20, 1000
WIDTH, SAMPLES, PARTS = 2048, 4096, 5


def alone(function, *args):
    """A function's result from a fresh process, so that memory is its own."""
    os.environ['OMP_NUM_THREADS'] = '1'
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def memory(name: str, of: str = 'status') -> float:
    """A line of /proc/self/status or smaps_rollup, in MB."""
    for line in Path(f'/proc/self/{of}').read_text().splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


@contextmanager
def measured(out: dict, name: str):
    """Puts seconds and memory beyond what the process held before into ``out[name]``."""
    Path('/proc/self/clear_refs').write_text('5')  # the peak so far is forgotten
    before, cpu, wall = memory('VmRSS'), time.process_time(), time.perf_counter()
    yield
    out[name] = dict(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall,
                     held=memory('VmRSS') - before, peak=memory('VmHWM') - before)


# ----------------------------------------------------------------------------------------- index


def write_images(root: Path, count: int) -> None:
    """Empty images in folders of a thousand, a list of them, and two labelled ones beside."""
    import tiny
    tiny.write_data(root, labeled=2, unlabeled=2)
    names = [f'part{i // PER_FOLDER:04d}/image_{i:08d}.jpg' for i in range(count)]
    for number, name in enumerate(names):
        if number % PER_FOLDER == 0:
            first = root / 'more' / name
            first.parent.mkdir(parents=True)
            first.touch()
        else:
            os.link(first, root / 'more' / name)
    random.Random(0).shuffle(names)
    (root / 'many.txt').write_text('\n'.join(names) + '\n')


def index(root: Path, way: str) -> dict:
    """Build the data set as ``way`` says; then draw batches and read the index in two workers."""
    import tiny
    from mmengine.dataset import InfiniteSampler
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS
    from torch.utils.data import DataLoader

    from mmseg_esl.datasets import SemiBatchSampler
    from mmseg_esl.engine.resume.fingerprint import _listed
    init_default_scope('mmseg')
    unlabeled = tiny.data_cfg(
        root, 'UnlabeledDataset', data_prefix=dict(img_path='more'), img_suffix=None,
        pipeline=[dict(type='LoadEmptyAnnotations')], check_files=way == 'list, checked',
        **({} if way == 'folder' else dict(ann_file='many.txt')))
    labeled = tiny.data_cfg(root, ann_file='labeled.txt', pipeline=[dict(type='LoadAnnotations')])
    out = {}
    with measured(out, 'list'):
        unlabeled = DATASETS.build(unlabeled)
    with measured(out, 'checks'):
        semi = DATASETS.build(dict(type='SemiDataset', labeled=labeled, unlabeled=unlabeled))
    with measured(out, 'fingerprint'):
        _listed(semi.unlabeled)
    sampler = SemiBatchSampler(InfiniteSampler(semi, seed=0), 4, 2, 2)
    with measured(out, 'first batch'):
        sampler.batch(0)
    with measured(out, 'thousand batches'):
        for iteration in range(1000):
            sampler.batch(iteration)
    out['index'] = (unlabeled.data_bytes.nbytes + unlabeled.data_address.nbytes) / MB
    # every index once, in random order, dealt to two workers
    loader = DataLoader(_Index(semi), batch_size=PER_FOLDER, shuffle=True, num_workers=2,
                        collate_fn=max)
    out['workers'] = max(loader)
    return out


class _Index:
    """An item is what its worker holds of its own, beyond what it began with; 0 for most."""

    def __init__(self, semi):
        self.semi, self.before = semi, None

    def __len__(self) -> int:
        return len(self.semi)

    def __getitem__(self, i: int) -> float:
        if self.before is None:
            self.before = memory('Private_Dirty', 'smaps_rollup')
        self.semi.get_data_info(i)
        asked = i % PER_FOLDER == 0
        return memory('Private_Dirty', 'smaps_rollup') - self.before if asked else 0.0


# ----------------------------------------------------------------------------------------- parts


def parts(classes: int, images: int, cluster: bool) -> dict:
    """Fill the samples from ``images`` made-up feature maps; then cluster all classes, or not."""
    import torch

    from mmseg_esl.engine.hooks.part_init_hook import PartInitHook
    from mmseg_esl.engine.hooks.reservoir import Reservoir
    from mmseg_esl.functional import sample_features
    torch.set_num_threads(1)
    gen, out = torch.Generator().manual_seed(0), {}
    centres = torch.randn(classes, 10, WIDTH, generator=gen)
    kept = [Reservoir(SAMPLES) for _ in range(classes)]

    def image():
        """(2048, 33, 33) features and (513, 513) labels in 32 blocks, as of crops of 513."""
        blocks = torch.randint(classes, (4, 8), generator=gen)
        low = blocks.repeat_interleave(9, 0).repeat_interleave(5, 1)[:33, :33]
        which = torch.randint(10, low.shape, generator=gen)
        feats = centres[low, which] + torch.randn(*low.shape, WIDTH, generator=gen)
        place = (torch.arange(513) * 33) // 513
        return feats.permute(2, 0, 1).contiguous(), low[place][:, place]

    made = [image() for _ in range(4)]
    for name, first, last in (('first half', 0, images // 2), ('second half', images // 2, images)):
        with measured(out, name):
            for number in range(first, last):
                new = sample_features(*made[number % 4], classes, SAMPLES, generator=gen,
                                      bounds=[r.bound for r in kept])
                for reservoir, (feats, keys, pixels) in zip(kept, new):
                    reservoir.add(feats, keys, pixels)
    for reservoir in kept:
        reservoir.sort()
    out['kept'] = sum(r.feats.numel() for r in kept) * 4 / MB
    if cluster:
        keys = [[(r.keys.numpy(), r.seen) for r in kept]]
        with measured(out, 'clustering'):
            PartInitHook(max_samples=SAMPLES)._cluster_own(kept, keys, range(classes), PARTS)
    return out


# ---------------------------------------------------------------------------------------- tables


def seconds(entry: dict, unit: float = 1.0, digits: int = 1) -> str:
    return f'{entry["cpu"] / unit:.{digits}f} ({entry["wall"] / unit:.{digits}f})'


def row(*cells) -> None:
    print('|', ' | '.join(str(cell) for cell in cells), '|', flush=True)


def index_table(sizes) -> None:
    columns = ('images', 'start', 'list, s cpu (wall)', 'checks', 'fingerprint', 'peak, MB',
               'index, MB', 'a worker, MB', 'first batch, ms', 'a batch, ms')
    row(*columns)
    row(*['---'] * len(columns))
    for count in sizes:
        with tempfile.TemporaryDirectory() as folder:
            alone(write_images, Path(folder), count)
            for way in ('list, believed', 'list, checked', 'folder'):
                found = alone(index, Path(folder), way)
                row(count, way, *(seconds(found[k]) for k in ('list', 'checks', 'fingerprint')),
                    f'{max(found[k]["peak"] for k in ("list", "checks")):.0f}',
                    f'{found["index"]:.0f}', f'{found["workers"]:.0f}',
                    f'{1e3 * found["first batch"]["cpu"]:.0f}',
                    f'{found["thousand batches"]["cpu"]:.3f}')


def parts_table(classes, images: int) -> None:
    columns = ('classes', 'images', 'kept, MB', 'peak beside, MB', 'an image, ms cpu (wall)',
               'in the second half', 'clustering, s cpu (wall)', 'its peak beside, MB')
    row(*columns)
    row(*['---'] * len(columns))
    for number in classes:
        for count in (images, 4 * images):
            found = alone(parts, number, count, count > images)
            first, second = found['first half'], found['second half']
            beside = max(first['peak'], first['held'] + second['peak']) - found['kept']
            own = found.get('clustering')
            row(number, count, f'{found["kept"]:.0f}', f'{beside:.0f}',
                *(seconds(half, count // 2 / 1e3, 0) for half in (first, second)),
                *((seconds(own, digits=0), f'{own["peak"]:.0f}') if own else ('', '')))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', nargs='*', type=int, default=[118_000, 1_000_000])
    parser.add_argument('--classes', nargs='*', type=int, default=[21, 81])
    parser.add_argument('--labeled', type=int, default=100, help='images for the parts; and 4 times'
                        ' as many')
    args = parser.parse_args()
    if args.images:
        index_table(args.images)
    print()
    if args.classes:
        parts_table(args.classes, args.labeled)


if __name__ == '__main__':
    main()
