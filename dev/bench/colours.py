"""What colours of a strong view cost, several ways, as a share of a training step. Prints a table.

    python dev/bench/colours.py --sizes 112 144 256 256

A step of FixMatch without colours, MobileNetV2 with DeepLabV3+ (stride 32), 4 + 4 images, on one
thread; beside it the colours of 4 images: jitter, grey and blur with KorniaStrongView's chances.
'in workers' is not in the step: a loader worker has its time for one image while another step
runs. Seconds of the process, medians of rounds that take turns.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import tiny
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_esl.datasets import StrongColours
from mmseg_esl.models import KorniaStrongView, RandomIntensity
from mmseg_esl.models.views import recolour

IMAGES = 4  # of each kind


def method(size):
    """FixMatch on a MobileNetV2, without colours, and its optimiser."""
    init_default_scope('mmseg')
    norm = dict(type='BN', requires_grad=True)
    segmentor = tiny.segmentor(11, backbone=dict(
        type='MobileNetV2', out_indices=(1, 2, 4, 6), norm_cfg=norm), decode_head=dict(
        type='DepthwiseSeparableASPPHead', in_channels=320, in_index=3, channels=128,
        dilations=(1, 2, 3, 4), c1_in_channels=24, c1_channels=24, num_classes=11, norm_cfg=norm,
        align_corners=False, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)))
    segmentor['data_preprocessor']['size'] = size
    model = MODELS.build(tiny.method_cfg('FixMatch', segmentor))
    model.driven = True
    return model.train(), torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)


def ways(size, pre) -> dict:
    """Name -> what colours ``(4, 3, H, W)`` normalised images on the batch, or one in a worker."""
    images = torch.randn(IMAGES, 3, *size).clamp(-1, 1)
    out = {'kornia, on the batch': batchwise(KorniaStrongView(), images, pre),
           'RandomIntensity, on the batch': batchwise(RandomIntensity(), images, pre)}
    from torchvision.transforms import v2
    each = v2.Compose([
        v2.RandomApply([v2.ColorJitter(0.5, 0.5, 0.5, 0.25)], 0.8), v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], 0.5)])
    out['torchvision v2, on the batch'] = batchwise(
        lambda x: torch.stack([each(image) for image in x]), images, pre)
    whole = (images[0] * 127.5 + 127.5).byte()
    out['torchvision v2, in workers'] = lambda: [each(whole) for _ in range(IMAGES)]
    results = dict(img=whole.permute(1, 2, 0).numpy())
    out['StrongColours (PIL), in workers'] = lambda: [StrongColours()(dict(results))
                                                      for _ in range(IMAGES)]
    return out


def batchwise(colours, images, pre):
    return lambda: recolour(images, colours, pre)


def table(size, rounds: int) -> None:
    model, optimizer = method(size)
    inputs, samples = tiny.batch(IMAGES, IMAGES, 11, size=size)

    def step():
        loss, _ = model.parse_losses(model.loss(inputs, samples))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_optimizer_step(0)

    works = {'step': step, **ways(size, model.data_preprocessor)}
    times = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            begun = time.process_time()
            for _ in range(1 if name == 'step' else 3):
                work()
            spent = (time.process_time() - begun) / (1 if name == 'step' else 3)
            if turn:
                times[name].append(spent)
    middle = {name: statistics.median(found) for name, found in times.items()}
    for name, spent in middle.items():
        print(f'| {size[0]} x {size[1]} | {name} | {1e3 * spent:.1f} | '
              f'{100 * spent / middle["step"]:.1f} % |', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', type=int, nargs='+', default=[112, 144, 256, 256])
    parser.add_argument('--rounds', type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print('| size | | ms cpu, 4 images | of a step |\n|---|---|--:|--:|', flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for size in zip(args.sizes[::2], args.sizes[1::2]):
            table(size, args.rounds)


if __name__ == '__main__':
    main()
