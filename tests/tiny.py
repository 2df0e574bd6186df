"""A network, a batch and a data set that are as small as the real ones allow."""
from __future__ import annotations

import copy
import gc
import logging
import uuid
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from PIL import Image

import mmseg_esl.register  # noqa: F401  (registers every component)
from mmseg_esl.models.segmentors import main_head

CLASSES = ('ground', 'thing', 'sky')
PALETTE = [[0, 0, 0], [9, 9, 9], [99, 99, 99]]
EMA, PARTS = dict(type='TeacherEMAHook'), dict(type='PartInitHook')
NORM = dict(type='BN', requires_grad=True)
gc.freeze()  # for the processes that tests start: see conftest.py


def segmentor(num_classes=3, auxiliary=False, **changes) -> dict:
    """DeepLabV3+ on a ResNet-18 of an eighth of the width; stride 8, decoder at stride 4."""
    cfg = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True,
            pad_val=0, seg_pad_val=255, size=(32, 32)),
        backbone=dict(
            type='ResNetV1c', depth=18, stem_channels=8, base_channels=8, num_stages=4,
            out_indices=(0, 1, 2, 3), strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), norm_cfg=NORM),
        decode_head=dict(
            type='DepthwiseSeparableASPPHead', in_channels=64, in_index=3, channels=12,
            dilations=(1, 2), c1_in_channels=8, c1_channels=6, dropout_ratio=0,
            num_classes=num_classes, norm_cfg=NORM, align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss')),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'))
    if auxiliary:
        cfg['auxiliary_head'] = fcn(num_classes, in_index=2, in_channels=32)
    cfg.update(changes)
    return copy.deepcopy(cfg)


def fcn(num_classes=3, **changes) -> dict:
    return dict(dict(
        type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, concat_input=False,
        dropout_ratio=0, num_classes=num_classes, norm_cfg=NORM, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')), **changes)


def cascade(num_classes=3) -> dict:
    return segmentor(
        type='CascadeEncoderDecoder', num_stages=2,
        decode_head=[fcn(num_classes), dict(
            type='OCRHead', in_channels=64, in_index=3, channels=8, ocr_channels=4,
            dropout_ratio=0, num_classes=num_classes, norm_cfg=NORM, align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss'))])


def esl_cfg(variant='dsl+ctr', segmentor=None, num_classes=3, parts=2, queue=4, test_cfg=None,
            projector=None, **semi) -> dict:
    seg = segmentor or globals()['segmentor'](num_classes)
    return dict(
        type='ESL', segmentor=copy.deepcopy(seg), projector=projector or dict(channels=10),
        part_memory=dict(num_parts=parts, queue_length=queue),
        semi_train_cfg=dict(dict(variant=variant, num_negatives=7), **semi),
        semi_test_cfg=test_cfg or {})


def esl(*args, sharp=0.0, start=True, **kwargs):
    """A model in training mode; ``sharp`` makes its predictions confident, ``start`` sets random
    prototypes, as PartInitHook would have done."""
    return _built(esl_cfg(*args, **kwargs), sharp, start)


OWN_PARTS = dict(projector=dict(channels=10), part_memory=dict(num_parts=2, queue_length=4))
OWN = {'ESL': OWN_PARTS, 'ESLPlus': OWN_PARTS,
       'GCT': dict(flaw_detector=dict(channels=4, norm_cfg=NORM)),
       'PC2Seg': dict(projector=dict(channels=10)),
       'ReCo': dict(projector=dict(channels=10, kernel_size=1)),
       'U2PL': dict(projector=dict(channels=10, kernel_size=1),
                    class_queues=dict(length=40, first_length=60))}


def method_cfg(kind: str, seg=None, num_classes=3, test_cfg=None, **semi) -> dict:
    """Any method by its name, at the defaults of its ``semi_train_cfg`` but for ``semi``."""
    own = OWN.get(kind, {}) if getattr(MODELS.get(kind).parse_cfg(semi), 'contrast', True) else {}
    return dict(type=kind, segmentor=copy.deepcopy(seg or segmentor(num_classes)),
                semi_train_cfg=semi, semi_test_cfg=test_cfg or {}, **copy.deepcopy(own))


def method(kind: str, *args, sharp=0.0, start=True, **kwargs):
    """Any method as :func:`esl` gives ESL."""
    return _built(method_cfg(kind, *args, **kwargs), sharp, start)


def _built(cfg: dict, sharp: float, start: bool):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(cfg))
    with quiet():
        model.init_weights()
    if sharp:
        sharpen(model, sharp)
    if start and getattr(model, 'part_memory', None) is not None:
        begin(model)
    model.driven = True  # as StepHook would have said
    return model.train()


@contextmanager
def quiet():
    """init_weights reports every tensor."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def forget_visualizers() -> None:
    """mmengine keeps one of a name a process, with the folder of its first run."""
    from mmseg.visualization import SegLocalVisualizer  # late: it wants a stack that is mended
    for kind in (Visualizer, SegLocalVisualizer):
        kind._instance_dict.clear()


def sharpen(model, std: float):
    """Larger classifier weights, the same in all networks."""
    with torch.no_grad():
        weight = main_head(model.main).conv_seg.weight.normal_(0, std)
        for net in model.named(plain=True).values():
            main_head(net).conv_seg.weight.copy_(weight)


def begin(model):
    memory = model.part_memory
    memory.start(torch.randn(memory.prototypes.shape))
    memory.active = True


def sample(label: torch.Tensor, labeled: bool | None) -> SegDataSample:
    out, size = SegDataSample(), tuple(label.shape)
    out.gt_sem_seg = PixelData(data=label[None])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    out.set_metainfo(meta if labeled is None else dict(meta, labeled=labeled))
    return out


def batch(labeled=2, unlabeled=2, num_classes=3, size=32, seed=0, ignored=4):
    """Normalised images and samples; ``ignored`` columns at the right are 255 everywhere.

    ``size``: of both sides, or (H, W).
    """
    height, width = (size, size) if isinstance(size, int) else size
    gen = torch.Generator().manual_seed(seed)
    total = labeled + unlabeled
    low = torch.randn(total, 3, height // 4, width // 4, generator=gen)
    inputs = torch.nn.functional.interpolate(low, size=(height, width), mode='bilinear')
    inputs = inputs + 0.3 * torch.randn(inputs.shape, generator=gen)
    labels = torch.randint(num_classes, (total, -(-height // 8), -(-width // 8)), generator=gen)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width].clone()
    labels[labeled:] = 0
    if ignored:
        labels[..., -ignored:] = 255
    return inputs, [sample(label, i < labeled) for i, label in enumerate(labels)]


def total(losses: dict) -> torch.Tensor:
    """What mmengine's parse_losses would back-propagate."""
    out = 0.0
    for key, value in losses.items():
        if 'loss' in key:
            out = out + (sum(v.mean() for v in value) if isinstance(value, list) else value.mean())
    return out


# ------------------------------------------------------------------------------- data on a disk


def write_data(root, labeled=3, unlabeled=3, size=32, classes=(0, 1, 2)) -> None:
    """img/{a0..,b0..}.png, ann/a*.png, labeled.txt, unlabeled.txt."""
    rng = np.random.RandomState(0)
    for folder in ('img', 'ann'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = dict(labeled=[f'a{i}' for i in range(labeled)],
                 unlabeled=[f'b{i}' for i in range(unlabeled)])
    for which, stems in names.items():
        (root / f'{which}.txt').write_text('\n'.join(stems) + '\n')
        for stem in stems:
            mask = rng.choice(classes, (size // 8, size // 8)).repeat(8, 0).repeat(8, 1)
            mask.flat[:len(classes)] = classes
            image = (mask[..., None] * 80 + rng.randint(0, 60, (size, size, 3))).astype(np.uint8)
            Image.fromarray(image).save(root / 'img' / f'{stem}.png')
            if which == 'labeled':
                Image.fromarray(mask.astype(np.uint8)).save(root / 'ann' / f'{stem}.png')


def data_cfg(root, kind='BaseSegDataset', pipeline=(), **changes) -> dict:
    return dict(dict(
        type=kind, data_root=str(root), data_prefix=dict(img_path='img', seg_map_path='ann'),
        metainfo=dict(classes=CLASSES, palette=PALETTE), img_suffix='.png',
        pipeline=[dict(type='LoadImageFromFile'), *pipeline, dict(type='PackSegInputs')]),
        **changes)


def loader_cfg(root, labeled=2, unlabeled=2) -> dict:
    flip = dict(type='RandomFlip', prob=0.5)
    return dict(
        batch_size=labeled + unlabeled, num_workers=0,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        batch_sampler=dict(type='SemiBatchSampler', num_labeled=labeled, num_unlabeled=unlabeled),
        dataset=dict(
            type='SemiDataset',
            labeled=data_cfg(root, ann_file='labeled.txt',
                             pipeline=[dict(type='LoadAnnotations'), flip]),
            unlabeled=data_cfg(root, 'UnlabeledDataset', ann_file='unlabeled.txt',
                               pipeline=[dict(type='LoadEmptyAnnotations'), flip])))


def val_loader_cfg(root) -> dict:
    return dict(
        batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=data_cfg(root, ann_file='labeled.txt', pipeline=[dict(type='LoadAnnotations')]))


def runner(*args, **kwargs) -> Runner:
    """A real mmengine Runner on the tiny data set; it dumps no config, so hooks may be objects."""
    return Runner(**runner_cfg(*args, **kwargs))


def runner_cfg(work_dir, data_root, hooks, max_iters=2, model=None, val=False, wrapper=None,
               interval=1, save_every=10 ** 6, **changes) -> dict:
    """The whole config of it."""
    cfg = dict(
        model=ConfigDict(model or esl_cfg()), work_dir=str(work_dir),
        train_dataloader=loader_cfg(data_root),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters),
        optim_wrapper=dict(dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)),
                           **(wrapper or {})),
        custom_hooks=hooks, default_scope='mmseg', log_level='WARNING', randomness=dict(seed=0),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=interval, log_metric_by_epoch=False),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=save_every,
                            save_last=False)),
        experiment_name=uuid.uuid4().hex)
    if val:
        cfg.update(val_dataloader=val_loader_cfg(data_root),
                   val_cfg=dict(type='TeacherStudentValLoop'),
                   val_evaluator=dict(type='PerClassIoUMetric', iou_metrics=['mIoU']))
    cfg.update(changes)
    return cfg


def run(tmp_path, data_root, hooks, **kwargs) -> Runner:
    """Train to the end."""
    with quiet():
        made = runner(tmp_path / 'work', data_root, hooks, **kwargs)
        made.train()
    return made


class Watch(Hook):
    """Calls a function after each training iteration, before other hooks or after them."""

    def __init__(self, look, priority='LOWEST'):
        self.look, self.priority, self.found = look, priority, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.found.append(self.look(runner))
