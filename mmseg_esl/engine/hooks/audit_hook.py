"""Hold pseudo labels against masks that training never sees."""
from __future__ import annotations

import json
import os.path as osp

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_reduce, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmseg.registry import DATASETS, HOOKS
from torch.utils.data import DataLoader, Subset

from ...datasets.wrapped import has_empty_labels
from ...looks import PseudoLabelAudit, look
from ...looks.audit import resized
from ...progress import track
from ...semi import SemiSegmentor
from ...storage.atomic import atomic_file
from ..interrupt import shield_workers
from ..metric_names import PER_CLASS, class_names
from ..ranks import on_main, raise_together
from ..rng import rng_state, set_rng_state
from ..unwrap import unwrap

FOLDER = 'audit'  # below the work folder


@HOOKS.register_module()
class PseudoLabelAuditHook(Hook):
    """Every so often, and at the end, count how good the pseudo labels are.

    The network whose labels the unlabelled images get (the method's ``labeler``: a teacher, or the
    student itself) looks at whole images of a labelled set that is not trained on. What it would
    have given them as pseudo labels is compared with their masks, at the masks' resolution, and
    with its dynamic soft label whichever method trains (see
    :class:`mmseg_esl.looks.PseudoLabelAudit` for the figures; ``mass`` and ``confidence`` are the
    method's keys, or that class's defaults where it has none). They go to the visualiser's backends
    as ``audit/...``, in short to the log, and all of them to
    ``<work_dir>/audit/iter_<N>.json``. The ranks share the images. Parts are audited once they have
    been found.

    Training does not notice: random states are as before, no state of the model is touched, so a
    run with this hook is bit for bit the one without it. Like a validation, an audit is computed in
    the precision of the weights, without AMP. All of this is our choice.

    Args:
        interval: iterations between audits.
        dataset: config of a data set with masks, whose pipeline packs them; None: the one of
            val_dataloader. The unlabelled images themselves where masks of them exist.
        max_images: at most so many, evenly spread over the list, the same ones each time; None:
            all.
        bins: of the calibration error.

    Raises:
        ValueError: an argument below 1; there is no data set, it has no masks, or its classes are
            not the model's.
        TypeError: the model is a plain segmentor.
        RuntimeError: another rank could not audit its images.
    """
    priority = 'LOWEST'  # whatever happens here, the iteration has been logged and saved

    def __init__(self, interval: int, dataset: dict | None = None, max_images: int | None = None,
                 bins: int = 15):
        for name, value in dict(interval=interval, max_images=max_images, bins=bins).items():
            if value is not None and value < 1:
                raise ValueError(f'PseudoLabelAuditHook.{name} must be at least 1, got {value}')
        self.interval, self.dataset = interval, dataset
        self.max_images, self.bins = max_images, bins

    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        if not isinstance(model, SemiSegmentor):
            raise TypeError(f'PseudoLabelAuditHook: a {type(model).__name__} gives no pseudo '
                            'labels that could be audited. Take the hook out of custom_hooks')
        self._dataset = self._build(runner)
        state = rng_state()
        check_masks(self._dataset)
        set_rng_state(state)
        self._classes = self._dataset.metainfo.get('classes') or ()
        if len(self._classes) != model.num_classes:
            raise ValueError(f'PseudoLabelAuditHook: its data set has {len(self._classes)} classes '
                             f'and the model {model.num_classes}. Give dataset=dict(...) with the '
                             'classes that are trained')

    def _build(self, runner):
        if self.dataset is not None:
            return DATASETS.build(self.dataset)
        if runner.val_loop is None:
            raise ValueError('PseudoLabelAuditHook: the config has no val_dataloader whose data '
                             'set could be audited. Give dataset=dict(...)')
        return runner.val_dataloader.dataset

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            figures = self._audit(runner).result(self._classes, runner.iter + 1)
            self._report(runner, dict(figures, network=unwrap(runner.model).labeler))

    # ---- counting -----------------------------------------------------------------------------

    def _audit(self, runner) -> PseudoLabelAudit:
        """Of all ranks' images; a collective."""
        model, state = unwrap(runner.model), rng_state()
        memory = getattr(model, 'part_memory', None)
        parts_exist = memory is not None and bool(memory.initialised)
        own = {key: getattr(model.cfg, key) for key in ('mass', 'confidence')
               if hasattr(model.cfg, key)}
        audit = PseudoLabelAudit(
            model.num_classes, memory.num_parts if parts_exist else None, bins=self.bins,
            part_mask=memory.part_mask if parts_exist else None, **own)
        error = None
        try:
            self._count_share(runner, model, audit)
        except Exception as caught:  # every rank must hear of it, or the others wait for ever
            error = caught
        finally:
            set_rng_state(state)
        raise_together(error, 'auditing pseudo labels')
        for count in audit.counts.values():
            all_reduce(count)
        return audit

    def _count_share(self, runner, model, audit: PseudoLabelAudit) -> None:
        total = len(self._dataset)
        number = min(total, self.max_images or total)
        places = [i * total // number for i in range(number)]
        loader = DataLoader(Subset(self._dataset, places[get_rank()::get_world_size()]),
                            collate_fn=pseudo_collate,
                            num_workers=min(2, runner.train_dataloader.num_workers))
        batches = iter(loader)
        shield_workers()  # they shall survive a Ctrl-C: the iteration is to be finished
        if is_main_process():
            batches = track(batches, 'images audited', len(loader), runner.logger.info)
        for batch in batches:
            area = tuple(batch['inputs'][0].shape[-2:])  # the preprocessor may pad it
            data = model.data_preprocessor(batch)  # as in a test
            truth = data['data_samples'][0].gt_sem_seg.data.long()  # (1, H, W)
            truth = torch.where(truth == model.ignore_index, -1, truth)
            seen = resized(look(model, data['inputs']), truth.shape[-2:], mass=audit.mass,
                           area=area, align_corners=model.align_corners)
            audit.update(seen, truth)

    # ---- telling ------------------------------------------------------------------------------

    def _report(self, runner, figures: dict) -> None:
        path = osp.join(runner.work_dir, FOLDER, f'iter_{figures["iter"]}.json')
        on_main(write_json, path, figures)
        runner.visualizer.add_scalars(scalars(figures), step=figures['iter'])
        runner.logger.info(summary(figures))


def check_masks(dataset) -> None:
    """Raise ValueError unless the first image of a data set comes with its mask."""
    remedy = ("Give PseudoLabelAuditHook(dataset=...) a data set with data_prefix=dict("
              "seg_map_path=...) and dict(type='LoadAnnotations') in its pipeline")
    if has_empty_labels(dataset):
        raise ValueError('PseudoLabelAuditHook compares with the truth, but LoadEmptyAnnotations '
                         f'in the pipeline of its data set makes masks up. {remedy}')
    try:
        sample = dataset[0]['data_samples']
    except Exception as error:
        raise ValueError('PseudoLabelAuditHook cannot load the first image of its data set with '
                         f'its mask: {type(error).__name__}: {error}. {remedy}') from error
    if 'gt_sem_seg' not in sample:
        raise ValueError('PseudoLabelAuditHook compares with the truth, but its data set gives '
                         f'images without masks. {remedy}')


def write_json(path: str, figures: dict) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(figures, indent=2, allow_nan=False) + '\n').encode())


def scalars(figures: dict) -> dict[str, float]:
    """The figures that are drawn as curves, by name; those without a value are left out."""
    out = {f'audit/{name}': figures[name] for name in ('hard_accuracy', 'soft_hit_rate', 'ece')}
    out.update({f'audit/dominant/{size.replace("+", "_or_more")}': share
                for size, share in figures['dominant'].items()})
    tables = {f'{PER_CLASS}/{name}': table for name, table in figures['per_class'].items()}
    tables.update({f'parts/{name}': table for name, table in (figures['parts'] or {}).items()})
    classes = class_names(figures['classes'])
    for name, values in tables.items():
        for c, value in zip(classes, values):
            several = isinstance(value, list)  # of each part
            out.update({f'audit/{name}/{c}/{k + 1}': v for k, v in enumerate(value)} if several
                       else {f'audit/{name}/{c}': value})
    return {name: value for name, value in out.items() if value is not None}


def summary(figures: dict) -> str:
    """One line for the log."""
    def percent(value):
        return 'unknown' if value is None else f'{100 * value:.1f} %'

    return (f'audit of {figures["images"]} images: the {figures["network"]}\'s class is right for '
            f'{percent(figures["hard_accuracy"])} of the pixels, the true class is among the '
            f'dominant ones for {percent(figures["soft_hit_rate"])}; one dominant class: '
            f'{percent(figures["dominant"]["1"])}; calibration error {percent(figures["ece"])}')
