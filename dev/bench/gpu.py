"""What a GPU makes of an ESL step, with each setting that may speed it up; prints a table.

    python dev/bench/gpu.py --json gpu.json            # everything, a few hours
    python dev/bench/gpu.py --depths 50 --strides 8 --crops 513 --batch 8

The model is that of configs/esl/esl_r50_cityscapes_1-4.py in the middle of its training, with
random images and labels; a step is preprocessing, ``train_step`` and the teacher's update. Reported
are the median step, images per second, the largest memory, and the share of the chip's matmul rate,
measured in the same run in the same precision. 'waits' says whether the host waited for the device
between preprocessing and the end of backward.
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'dev'), str(ROOT / 'tools')]

from cli_common import ready
from train import use_amp

ready()
import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from bench import models as whole
from bench.floors import Floor
from bench.measuring import positive
from mmseg_esl.engine.hooks.channels_last_hook import use_channels_last
from mmseg_esl.engine.hooks.compile_hook import compile_networks
from mmseg_esl.storage.atomic import atomic_file

GEOMETRY = {  # output stride: of the backbone, and of the head's ASPP
    8: (dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)), (1, 12, 24, 36)),
    16: (dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)), (1, 6, 12, 18))}
ALL = dict(amp='bf16', channels_last=True, fused=True, compiled=True)
SETTINGS = {  # one at a time on top of bf16, then all
    'fp32': {}, 'fp16': dict(amp='fp16'), 'bf16': dict(amp='bf16'),
    'bf16, channels-last': dict(amp='bf16', channels_last=True),
    'bf16, fused': dict(amp='bf16', fused=True),
    'bf16, compile': dict(amp='bf16', compiled=True),
    'bf16, all three': ALL}
DTYPES = {None: torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


# --------------------------------------------------------------------------- what is measured


def load(depth: int, stride: int, crop: int) -> Config:
    """The project's Cityscapes config with another depth, output stride or crop."""
    cfg = whole.load(depth, crop, classes=19)
    backbone, dilations = GEOMETRY[stride]
    cfg.model.segmentor.backbone.update(backbone)
    cfg.model.segmentor.decode_head.update(dilations=dilations)
    return cfg


def build(cfg: Config, device: str, amp=None, channels_last=False, fused=False):
    """Model in the middle of training, and its optimiser."""
    if amp:
        use_amp(cfg, amp)
    if fused:
        cfg.optim_wrapper.optimizer.fused = True
    model, optimizer = whole.build(cfg, device)
    if channels_last:
        use_channels_last(model)
    return model, optimizer


def make_batch(labeled: int, unlabeled: int, crop: int, pin: bool = False) -> dict:
    batch = whole.make_batch(labeled, unlabeled, 19, crop)
    if pin:
        batch['inputs'] = [image.pin_memory() for image in batch['inputs']]
    return batch


# ------------------------------------------------------------------------------- measurements


def synchronize(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()


def timed(work, device: str, rounds: int, warmup: int) -> float:
    """Median seconds of ``work``, the device's included."""
    seconds = []
    for _ in range(warmup + rounds):
        synchronize(device)
        begin = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[warmup:])


def matmul_rate(dtype, device: str, size: int = 8192, rounds: int = 10) -> float:
    """FLOP/s of one large matrix product; float32 with TF32 where convolutions have it."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        return 2 * size ** 3 / timed(lambda: a @ b, device, rounds, warmup=3)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def count_flops(cfg: Config, device: str, batch: dict) -> int:
    """FLOP of one step: convolutions and matrix products, forward and backward.

    torch's counter takes the backward of a depthwise convolution for that of a dense one. So the
    convolutions of backward are reckoned as twice the student's, half of those of forward.
    """
    model, optimizer = build(cfg, device)
    with FlopCounterMode(display=False) as counter:
        whole.train_step(model, optimizer, batch)
    counts = counter.get_flop_counts()['Global']
    forward = counts[torch.ops.aten.convolution]
    return counter.get_total_flops() - counts[torch.ops.aten.convolution_backward] + forward


def waits(model, optimizer, batch: dict) -> str:
    """'none', or what made the host wait between preprocessing and the end of the EMA, and where
    (this file, at ``backward``: an operator of the backward pass)."""
    with optimizer.optim_context(model):
        data = model.data_preprocessor(batch, training=True)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode('error')
        try:
            loss, _ = model.parse_losses(model(**data, mode='loss'))
            loss.backward()
            model.after_optimizer_step(10 ** 6)
        except torch.cuda.OutOfMemoryError:  # a RuntimeError, too
            raise
        except RuntimeError as error:
            return f'{str(error).splitlines()[0]}, at {place(error)}'
        finally:
            torch.cuda.set_sync_debug_mode('default')
            model.zero_grad()
            model.after_skipped_step()  # takes back what is staged, should it have come so far
    return 'none'


def place(error: BaseException) -> str:
    """The last line of the package's, or of this project's, that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = ([f for f in frames if (ROOT / 'mmseg_esl') in Path(f.filename).parents]
            or [f for f in frames if ROOT in Path(f.filename).parents] or frames)
    return f'{Path(ours[-1].filename).name}:{ours[-1].lineno}'


def measure(cfg: Config, device: str, batch: dict, rounds: int, warmup: int, compiled=False,
            **setting) -> dict:
    """Seconds of a step and of the floor loop, images per second, peak bytes and waits (None on a
    CPU) of one setting; ``compiled`` may be torch.compile's arguments."""
    model, optimizer = build(cfg, device, **setting)
    floor = Floor(model, optimizer, batch)  # it listens to networks that are not compiled
    if compiled:
        compile_networks(model, **(compiled if isinstance(compiled, dict) else {}))
    cuda = device != 'cpu'
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: whole.train_step(model, optimizer, batch), device, rounds, warmup)
    peak = torch.cuda.max_memory_allocated() if cuda else None
    images = batch['inputs']
    return dict(seconds=seconds, floor=timed(floor, device, rounds, warmup),
                images_per_second=len(images) / seconds, peak_bytes=peak,
                waits=waits(model, optimizer, batch) if cuda else None)


def sweep(depths, strides, crops, batch: int, rounds: int, names, device='cuda'):
    """Yield a row (dict) for each network and setting; one that does not fit says so."""
    rates = {amp: matmul_rate(dtype, device) for amp, dtype in DTYPES.items()}
    for depth in depths:
        for stride in strides:
            for crop in crops:
                data = make_batch(batch, batch, crop, pin=True)
                flops = None
                for name in names:
                    torch._dynamo.reset()
                    row = dict(network=f'R{depth}-d{stride}', crop=crop, images=2 * batch,
                               setting=name)
                    try:
                        flops = flops or count_flops(load(depth, stride, crop), device, data)
                        row.update(measure(load(depth, stride, crop), device, data, rounds, 10,
                                           **SETTINGS[name]))
                        rate = rates[SETTINGS[name].get('amp')]
                        row.update(flops=flops, share=flops / row['seconds'] / rate)
                    except torch.cuda.OutOfMemoryError:
                        row.update(failed='out of memory')
                    except RuntimeError as error:  # compilation, say: the next one may do
                        row.update(failed=f'{type(error).__name__}: '
                                          f'{(str(error).strip().splitlines() or [""])[0][:200]}')
                    torch.cuda.empty_cache()
                    yield row


def line(row: dict) -> str:
    """A row of the markdown table."""
    head = f"| {row['network']} | {row['crop']} | {row['images']} | {row['setting']} |"
    if 'failed' in row:
        return f"{head} {row['failed']} | | | | | |"
    return (f"{head} {row['seconds'] * 1000:.0f} | "
            f"{row['seconds'] / row['floor']:.2f}× | {row['images_per_second']:.1f} | "
            f"{row['peak_bytes'] / 2 ** 30:.1f} | {row['share']:.0%} | {row['waits']} |")


HEADER = ('| network | crop | images | setting | ms | over the floor | images/s | GiB | of matmul '
          '| waits |\n|---|--:|--:|---|--:|--:|--:|--:|--:|---|')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--depths', type=int, nargs='+', default=[50, 101],
                        choices=list(whole.WIDTHS))
    parser.add_argument('--strides', type=int, nargs='+', default=[8, 16], choices=list(GEOMETRY))
    parser.add_argument('--crops', type=int, nargs='+', default=[513, 769])
    parser.add_argument('--settings', nargs='+', default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument('--batch', type=positive, default=8,
                        help='labelled images, and unlabelled ones')
    parser.add_argument('--rounds', type=positive, default=20)
    parser.add_argument('--json', help='file for all figures')
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit('dev/bench/gpu.py measures a GPU and torch sees none: run it where '
                 'torch.cuda.is_available() is true; tools/train.py CONFIG --profile N works on a '
                 'CPU too')
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}; '
          f'TF32 in convolutions: {torch.backends.cudnn.allow_tf32}\n\n{HEADER}', flush=True)
    rows = []
    for row in sweep(args.depths, args.strides, args.crops, args.batch, args.rounds, args.settings):
        rows.append(row)
        print(line(row), flush=True)
        if args.json:  # after each row: the next may take long
            found = dict(device=torch.cuda.get_device_name(), torch=torch.__version__, rows=rows)
            with atomic_file(args.json) as file:
                file.write(json.dumps(found).encode())


if __name__ == '__main__':
    main()
