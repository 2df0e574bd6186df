"""All checks of one config, in order."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor

import torch
from mmseg.registry import MODELS

from ..datasets.manifest import Manifest
from ..storage.config import kind
from .data import (
    LabelCounts,
    check_class_number,
    check_files,
    check_ignore_index,
    check_labels,
    check_left_out,
    check_lossy_masks,
    check_manifest,
    check_orientation,
    check_shards,
    ignore_index,
)
from .findings import Finding
from .leakage import check_leakage
from .lists import Lists, label_maps, scan_image
from .memory import check_disk, check_memory, measure
from .method import method_of
from .training import (
    check_baseline,
    check_batches,
    check_hooks,
    check_norm,
    check_rate,
)
from .weights import check_weights


def diagnose(cfg, world: int = 1, track=lambda items, what, total: items) -> list[Finding]:
    """Look at everything that can be looked at before training.

    Args:
        cfg: mmengine Config whose custom_imports have run.
        world: GPUs, or processes, that will train.
        track: ``track(items, what, total)`` wraps an iterator, for a progress bar.

    Returns:
        Findings, at least one for each check that could be made.
    """
    out = guarded('hooks', lambda: check_hooks(cfg))
    out += guarded('ignore index', lambda: check_ignore_index(cfg.model))
    out += guarded('batch norm', lambda: check_norm(cfg, world, torch.cuda.is_available()))
    out += guarded('learning rate', lambda: check_rate(cfg, world))
    out += guarded('baseline', lambda: check_baseline(cfg))
    out += guarded('weights', lambda: check_weights(cfg))
    out += guarded('model', lambda: _resources(cfg, world))
    out += guarded('data', lambda: _data(cfg, world, track))
    return out


def guarded(check: str, function) -> list[Finding]:
    """The findings of a check, or the one that it could not be made."""
    try:
        return function()
    except Exception as error:
        text = f'{type(error).__name__}: {error}'
        return [Finding('error', check, text, 'training would meet the same error: as it says')]


def _resources(cfg, world: int) -> list[Finding]:
    if method_of(cfg)[0] is None:
        return [Finding('note', 'model', 'a plain segmentor: memory and disk are measured of '
                        'methods only')]
    sizes = measure(cfg, world)
    total = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None
    return check_memory(sizes, total) + check_disk(cfg, sizes)


def _data(cfg, world: int, track) -> list[Finding]:
    train = cfg.train_dataloader['dataset']
    if kind(train) != 'SemiDataset' and method_of(cfg)[0] is not None:
        raise ValueError(f"train_dataloader.dataset is a {train.get('type')}, not a SemiDataset")
    lists, out = Lists.of(cfg), []
    semi = lists.semi
    semi.label_values.ignore_index = ignore_index(cfg.model)
    if kind(train) == 'SemiDataset':
        out += check_batches(cfg, semi.num_labeled, semi.num_unlabeled, world)
    else:
        out.append(Finding('note', 'data', f"trains on a {train.get('type')}, no SemiDataset: "
                           'there are no unlabelled images'))
    out += check_class_number(cfg.model, lists)
    paths = sorted({path for group in lists.images.values() for path in group})
    with ThreadPoolExecutor() as pool:  # decoding and hashing leave Python's lock
        found = pool.map(lambda path: scan_image(path, path not in lists.own), paths)
        scans = dict(zip(paths, track(found, 'images', len(paths))))
    out += check_files(lists.images, scans) + check_shards(semi.unlabeled)
    out += check_left_out(lists) + check_lossy_masks(lists.masks)
    out += check_orientation(lists.images, scans)
    out += check_leakage(lists.images, scans, bool(train.get('allow_overlap')))
    name = train.get('manifest')
    files = lists.files()
    out += check_manifest(Manifest(name) if name else None, files,
                          lambda items: track(items, 'checksums', len(files)))
    maps = track(label_maps(lists), 'label maps', semi.num_labeled)
    classes = semi.metainfo.get('classes') or range(semi.num_classes or 255)
    return out + check_labels(LabelCounts(maps), [str(name) for name in classes],
                              bool(semi.metainfo.get('reduce_zero_label')
                                   or _reduces(semi)), _num_parts(cfg),
                              semi.label_values.ignore_index)


def _num_parts(cfg) -> int:
    """K, into which the features of each class are clustered; 1 where nothing is."""
    cls, semi = method_of(cfg)
    if cls is None or 'PartInitHook' not in cls.hooks_of(semi):
        return 1
    memory = cfg.model.get('part_memory') or {}
    arguments = inspect.signature(MODELS.get(kind(memory, 'PartMemory'))).parameters
    return memory.get('num_parts', arguments['num_parts'].default)


def _reduces(semi) -> bool:
    from ..datasets import wrapped
    return any(info.get('reduce_zero_label') for _, info in wrapped.infos(semi.labeled))
