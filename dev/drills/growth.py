"""What does each method hold, and what does it gather? Prints a table; exits with 1 if one fails.

    python dev/drills/growth.py --classes 150 --parts 10 --ranks 64 --images 2 2

Each method's own config (ResNet-50, DeepLabV3+, VOC's crop) with so many classes and parts, built
on torch's 'meta' device, where tensors have shapes and no values, and one whole training step
there as one of the ranks. Held: its networks, and what is no network, buffer by buffer. Gathered:
every tensor that the step brings to an all-gather, times the ranks, which is what arrives on each;
'at most' counts places where nothing is (absent parts, pixels that enter no queue), which above
16 MB are not sent. Reduced: what it brings to all-reduces, gradients apart.
"""
from __future__ import annotations

import argparse
import sys
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import tiny
import torch
import torch.distributed as dist
from mmengine.config import Config
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmseg_esl.doctor.memory import crop_size, on_meta
from mmseg_esl.models import gathered
from mmseg_esl.models.staged import Staged

MB, META = 1e6, torch.device('meta')


def configs() -> list:
    """One config a method, in the order of their names: VOC classic, 1/8, ResNet-50."""
    return sorted(path for path in (ROOT / 'configs').glob('*/*_r50_voc-classic_1-8.py')
                  if not path.name.startswith('sup_'))


def enlarged(path: Path, classes: int, parts: int) -> Config:
    """A method's config with so many classes, and parts where it has them."""
    cfg = Config.fromfile(path)
    model = cfg.model
    for head in (model.segmentor.decode_head, model.segmentor.get('auxiliary_head')):
        if head:
            head.num_classes = classes
    if model.get('part_memory') is not None:
        model.part_memory.num_parts = parts
    return cfg


def size(x: torch.Tensor) -> int:
    return x.numel() * x.element_size()


@contextmanager
def as_one_of(ranks: int):
    """Let a step on 'meta' believe in so many ranks; a list of (kind, bytes) of what it brings."""
    found = []

    def gather(outputs, x, group=None):
        found.append(('gathered', size(x)))

    def reduce(x, op=None, group=None):
        found.append(('reduced', size(x)))

    dist.init_process_group('fake', store=FakeStore(), rank=0, world_size=ranks)
    patches = [mock.patch('mmengine.dist.dist.get_comm_device', lambda group=None: META),
               mock.patch('torch.distributed.all_gather', gather),
               mock.patch('torch.distributed.all_reduce', reduce),
               mock.patch('torch.autocast', lambda *_, **__: nullcontext()),  # knows no 'meta'
               mock.patch.object(gathered, 'WHOLE', 2 ** 60)]  # its counts have no values here
    try:
        for patch in patches:
            patch.start()
        yield found
    finally:
        mock.patch.stopall()
        dist.destroy_process_group()


def measure(path: Path, classes: int, parts: int, ranks: int, images: tuple) -> dict:
    """Bytes of one method, held and moved in a step."""
    cfg = enlarged(path, classes, parts)
    model = on_meta(cfg.model).train()
    model.strong_view = None  # sends nothing, and may look at values
    model.driven, model.max_iters = True, cfg.train_cfg.max_iters
    model.iter = model.max_iters - 1  # behind every warm-up
    if getattr(model, 'part_memory', None) is not None:
        model.part_memory.active = True
    height, width = crop_size(cfg)
    inputs = torch.empty(sum(images), 3, height, width, device=META)
    label = torch.empty(height, width, dtype=torch.long, device=META)
    samples = [tiny.sample(label, i < images[0]) for i in range(sum(images))]
    with as_one_of(ranks) as found:
        model.loss(inputs, samples)
        model.after_optimizer_step(999)
    own = [(name, m) for name, m in model.named_modules() if isinstance(m, Staged)]
    nets = {name: sum(map(size, net.state_dict().values())) for name, net in model.named().items()}
    return dict(
        networks=nets, memory={f'{name}.{key}': size(value) for name, m in own
                               for key, value in m.named_buffers(recurse=False)},
        gathered=ranks * sum(n for kind, n in found if kind == 'gathered'),
        reduced=sum(n for kind, n in found if kind == 'reduced'))


def line(name: str, found: dict) -> str:
    held = {key: value for key, value in found['memory'].items() if value >= 0.05 * MB}
    largest = ', '.join(f'{key} {value / MB:.0f}' for key, value in held.items()) or '–'
    nets = ', '.join(f'{key} {value / MB:.0f}' for key, value in found['networks'].items())
    cells = (name, nets, f'{sum(found["networks"].values()) / MB:.0f}',
             f'{sum(found["memory"].values()) / MB:.1f}', largest, f'{found["gathered"] / MB:.1f}',
             f'{found["reduced"] / MB:.1f}')
    return f'| {" | ".join(cells)} |'


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--classes', type=int, default=150)
    parser.add_argument('--parts', type=int, default=10)
    parser.add_argument('--ranks', type=int, default=64)
    parser.add_argument('--images', type=int, nargs=2, default=(2, 2),
                        help='labelled and unlabelled, of a rank')
    args = parser.parse_args(argv)
    print('| config | networks, MB | in all | memories, MB | of which | gathered at most, MB | '
          'reduced, MB |\n|---|---|--:|--:|---|--:|--:|', flush=True)
    good = True
    for path in configs():
        try:
            with warnings.catch_warnings(), tiny.quiet():
                warnings.simplefilter('ignore')
                found = measure(path, args.classes, args.parts, args.ranks, tuple(args.images))
            print(line(path.parent.name + '/' + path.stem.split('_r50')[0], found), flush=True)
        except Exception as error:
            good = False
            print(f'| {path.stem} | {type(error).__name__}: {error} |', flush=True)
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
