"""Data loading alone: the Cityscapes config's data set and batches, on drawn images."""
from __future__ import annotations

import sys
import tempfile
import time

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import mmseg_esl.register  # noqa: F401  (registers every component)

from .measuring import ROOT
from .models import DATA

sys.path.append(str(ROOT / 'tests/integration'))
from cityscapes_folder import write_cityscapes

SIZES, WORKERS = ((1024, 2048), (375, 500)), (0, 2)


def loader_cfg(folder, size: tuple, crop: int, workers: int) -> dict:
    """The config's training loader on another folder; images are scaled around their own size."""
    cfg = Config.fromfile(str(DATA)).train_dataloader
    cfg.update(num_workers=workers, persistent_workers=workers > 0)
    for stream in (cfg.dataset.labeled, cfg.dataset.unlabeled):
        stream.data_root = str(folder)
        for transform in stream.pipeline:
            if transform.type == 'RandomResize':
                transform.scale = size[::-1]
            if transform.type == 'RandomCrop':
                transform.crop_size = (crop, crop)
    return cfg


def images_per_second(cfg: dict, batches: int) -> float:
    """Of a loader that nobody makes wait, once each file has been read and the workers' lead over
    the reader is used up."""
    init_default_scope('mmseg')
    loader = Runner.build_dataloader(cfg, seed=0)
    stream = iter(loader)
    for _ in range(2 + 4 * cfg['num_workers']):
        next(stream)
    start = time.perf_counter()
    for _ in range(batches):
        next(stream)
    seconds = time.perf_counter() - start
    del stream  # ends the workers
    return batches * cfg['batch_size'] / seconds


def run(batches: int, crop: int, sizes=SIZES, workers=WORKERS, say=print) -> list[dict]:
    """Rows ``dict(height, width, workers, crop, images_per_second)``."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_cityscapes(folder, 4, 4, 0, size=size)
            for number in workers:
                say(f'loading: {size[0]} x {size[1]}, {number} workers')
                cfg = loader_cfg(folder, size, crop, number)
                rows.append(dict(height=size[0], width=size[1], workers=number, crop=crop,
                                 images_per_second=images_per_second(cfg, batches)))
    return rows
