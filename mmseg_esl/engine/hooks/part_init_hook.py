"""Start the part prototypes by K-means over the labelled set (paper Sec. 3.3)."""
from __future__ import annotations

import copy
import time

import numpy as np
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset, pseudo_collate
from mmengine.dist import (
    all_gather_object,
    gather_object,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.datasets import MultiImageMixDataset
from mmseg.registry import HOOKS
from torch.utils.data import DataLoader, Subset

from ...datasets.bad_samples import ReadAgain
from ...datasets.wrapped import Reading, first_places, loading_steps
from ...functional import sample_features
from ...looks.windows import shares
from ...models.feature_tap import last_stage
from ...progress import track
from ..interrupt import shield_workers
from ..ranks import raise_together
from ..unwrap import unwrap
from .part_clusters import fixed_parts, parts_by_silhouette
from .reservoir import Reservoir


@HOOKS.register_module()
class PartInitHook(Hook):
    """Cluster the teacher encoder's features of each class; the means become its prototypes.

    Images are shown as the evaluation shows them: whole, or in the windows of
    ``test_cfg.mode='slide'``, a pixel counting in one of them. Each rank extracts its share,
    keeping max_samples pixels of each class however many images there are: classes * max_samples *
    width * 4 bytes. The ranks then share the classes out and gather one at a time. A checkpoint
    holds the result, so a resumed run does not cluster again.

    Args:
        begin: iteration before which to cluster. 0 = before training (paper). Where the backbone
            is not pretrained, the end of the warm-up serves better (our option).
        max_samples: most pixels of a class that are clustered, a uniform sample (our choice: all
            pixels of a data set would be tens of gigabytes).
        seed: of the sample and of the K-means.
        adaptive: None: K parts for every class (paper). 'silhouette': as many for each class, up to
            K, as fit its features best, see :func:`parts_by_silhouette` (our option; the paper
            leaves a K of each class to future work).
        transforms: configs of fixed transforms between loading and packing, such as a Resize where
            training sees images at another scale (None: images as they are loaded).

    Raises:
        ValueError: a class has labelled pixels, but fewer than K and is to have K parts (a class
            without any only warns: its prototypes stay zero until the teacher predicts it, see
            :class:`PartMemory`); ``adaptive`` is unknown.
    """
    priority = 'NORMAL'

    def __init__(self, begin: int = 0, max_samples: int = 4096, seed: int = 0,
                 transforms: list | None = None, adaptive: str | None = None):
        if adaptive not in (None, 'silhouette'):
            raise ValueError("PartInitHook.adaptive must be None or 'silhouette', got "
                             f'{adaptive!r}')
        self.adaptive = adaptive
        self.begin, self.max_samples, self.seed = begin, max_samples, seed
        self.transforms = list(transforms or [])

    def before_train(self, runner) -> None:
        memory = getattr(unwrap(runner.model), 'part_memory', None)
        if memory is not None:
            memory.active = bool(memory.initialised)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        memory = getattr(unwrap(runner.model), 'part_memory', None)
        if memory is None or memory.active or runner.iter < self.begin:
            return
        runner.logger.info(f'clustering encoder features into {memory.num_parts} parts a class')
        began = time.time()
        prototypes, mask, absent = self._prototypes(runner, memory)
        runner.logger.info(f'clustered in {time.time() - began:.0f} s')
        if absent:
            runner.logger.warning(f'no labelled pixel of {", ".join(absent)}: no parts yet; each '
                                  'step in which the teacher predicts such a class seeds one')
        memory.start(torch.from_numpy(prototypes).to(memory.prototypes), torch.from_numpy(mask))
        memory.active = True
        if self.adaptive:
            names = self._names(runner, memory.num_classes)
            runner.logger.info('parts chosen: ' + ', '.join(
                f'{name} {count}' for name, count in zip(names, mask.sum(axis=1))))

    @staticmethod
    def _names(runner, num_classes: int):
        return runner.train_dataloader.dataset.metainfo.get('classes') or range(num_classes)

    def _prototypes(self, runner, memory):
        names = self._names(runner, memory.num_classes)
        try:
            mine, error = self._extract(runner, memory.num_classes), None
        except Exception as e:  # every rank must hear of it, or the others wait for ever
            mine, error = None, e
        raise_together(error, 'extracting features')
        keys = all_gather_object([(r.keys.numpy(), r.seen) for r in mine])
        own = self._cluster_own(mine, keys, names, memory.num_parts)
        found = {c: result for results in all_gather_object(own) for c, result in results.items()}
        prototypes = np.zeros(tuple(memory.prototypes.shape), dtype=np.float32)
        mask = np.ones(prototypes.shape[:2], dtype=bool)  # of an absent class: all
        for c, result in sorted(found.items()):
            if isinstance(result, Exception):
                raise result
            prototypes[c, :len(result)], mask[c, len(result):] = result, False
        return prototypes, mask, [str(name) for c, name in enumerate(names) if c not in found]

    @torch.no_grad()
    def _extract(self, runner, num_classes: int):
        """The sample of each class from this rank's share of the images."""
        model = unwrap(runner.model)
        semi = runner.train_dataloader.dataset
        dataset = ReadAgain(semi.bad_samples, _undistorted(semi.labeled, self.transforms))
        rank, world = get_rank(), get_world_size()
        places = list(first_places(semi.labeled))
        loader = DataLoader(Subset(dataset, places[rank::world]),
                            collate_fn=pseudo_collate,
                            # of its own: the loader would draw from training's random numbers
                            generator=torch.Generator().manual_seed(self.seed),
                            num_workers=min(2, runner.train_dataloader.num_workers))
        generator = torch.Generator().manual_seed(self.seed * world + rank)
        kept = [Reservoir(self.max_samples) for _ in range(num_classes)]
        batches = iter(loader)
        shield_workers()  # they shall survive a Ctrl-C: the iteration is to be finished
        for batch in _track(batches, 'images read for the parts', len(loader)):
            data = model.data_preprocessor(batch)  # as in a test
            inputs, label = data['inputs'], data['data_samples'][0].gt_sem_seg.data[0]
            whole = label.new_full(inputs.shape[-2:], -1)  # the preprocessor may have padded
            whole[:label.shape[0], :label.shape[1]] = label
            net = getattr(model, model.labeler)
            for window, known in shares(net, inputs, whole[None].to(inputs.device)):
                feats = last_stage(net.backbone(window))
                new = sample_features(feats[0].float(), known[0], num_classes, self.max_samples,
                                      align_corners=model.align_corners, generator=generator,
                                      bounds=[r.bound for r in kept])
                for reservoir, (feats, keys, pixels) in zip(kept, new):
                    reservoir.add(feats.cpu(), keys, pixels)
        for reservoir in kept:
            reservoir.sort()
        return kept

    def _cluster_own(self, mine, keys, names, num_parts: int) -> dict:
        """Class -> its parts ``(k, D)``, or the error; of this rank's share of the classes.

        In rounds of one class for each rank, so that no rank holds more than one class of others.
        """
        out, rank, world = {}, get_rank(), get_world_size()
        rounds = range(0, len(names), world)
        for first in _track(rounds, 'rounds of clustering', len(rounds)):
            gathered = {}
            for c in range(first, min(first + world, len(names))):
                share = self._within(mine[c], [k[c][0] for k in keys])
                gathered[c] = gather_object(share, dst=c % world)
                mine[c] = None
            c = first + rank
            pixels = sum(k[c][1] for k in keys) if c in gathered else 0
            if pixels:
                try:
                    out[c] = self._cluster(gathered[c], pixels, names[c], num_parts)
                except Exception as e:  # raised by all ranks together
                    out[c] = e
        return out

    def _within(self, mine: Reservoir, keys: list) -> np.ndarray:
        """This rank's features among the max_samples smallest keys of all ranks."""
        every = np.sort(np.concatenate(keys))
        bound = every[self.max_samples - 1] if len(every) > self.max_samples else np.inf
        return mine.feats[mine.keys <= bound].numpy()

    def _cluster(self, shares, pixels: int, name, num_parts: int) -> np.ndarray:
        feats = np.concatenate([s for s in shares if len(s)])
        if not np.isfinite(feats).all():
            raise ValueError(f"the features of class '{name}' are not finite, so they cannot be "
                             'clustered: the network diverged before PartInitHook.begin, or its '
                             'weights are damaged. Lower the learning rate of the warm-up, or give '
                             'other weights')
        if self.adaptive:
            return parts_by_silhouette(feats, min(num_parts, len(feats)), self.seed)
        if len(feats) < num_parts:
            raise ValueError(
                f"class '{name}' has {pixels} labelled pixels, fewer than the "
                f'{num_parts} parts to find. Label more of it, raise '
                'PartInitHook.max_samples, or lower model.part_memory.num_parts.')
        return fixed_parts(feats, num_parts, self.seed)


def _track(items, what: str, total: int):
    """The items; the first rank says how far they are."""
    if not is_main_process():
        return items
    return track(items, what, total, lambda line: print_log(line, 'current'))


def _undistorted(dataset, extra):
    """The data set with its own loading steps, the extra ones, and nothing random.

    It keeps every index, so that the guard names and counts the same images.
    """
    if isinstance(dataset, ConcatDataset):
        return torch.utils.data.ConcatDataset([_undistorted(d, extra) for d in dataset.datasets])
    if isinstance(dataset, RepeatDataset):
        plain = copy.copy(dataset)
        plain.dataset = _undistorted(dataset.dataset, extra)
        return plain
    if isinstance(dataset, MultiImageMixDataset):  # one image each: mosaics are random
        return _undistorted(dataset.dataset, extra)
    loads = loading_steps(dataset.pipeline)
    if not loads:
        raise ValueError('PartInitHook needs the labels, but the labelled pipeline has no '
                         'LoadAnnotations transform')
    plain = copy.copy(dataset)
    plain.pipeline = Reading([*loads, *extra, dict(type='PackSegInputs')])
    return plain
