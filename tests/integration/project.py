"""A user's project in miniature: data, a supervised config, and the ESL config that wraps it."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from cityscapes_folder import draw, write

ROOT = Path(__file__).parents[2]
COLOURS = {0: (90, 90, 90), 1: (200, 60, 40), 2: (40, 80, 200), 3: (60, 180, 60)}

SUPERVISED = """
_base_ = ['mmseg::_base_/default_runtime.py']
crop_size = (48, 48)
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0,
        seg_pad_val=255, size=crop_size),
    backbone=dict(
        type='ResNetV1c', depth=18, stem_channels=8, base_channels=8, num_stages=4,
        out_indices=(0, 1, 2, 3), strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), norm_cfg=norm_cfg),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead', in_channels=64, in_index=3, channels=16,
        dilations=(1, 2, 4), c1_in_channels=8, c1_channels=8, dropout_ratio=0.1, num_classes=4,
        norm_cfg=norm_cfg, align_corners=False, loss_decode=dict(type='CrossEntropyLoss')),
    auxiliary_head=dict(
        type='FCNHead', in_channels=32, in_index=2, channels=8, num_convs=1, concat_input=False,
        num_classes=4, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
metainfo = dict(classes=('ground', 'red', 'blue', 'green'),
                palette=[[90, 90, 90], [200, 60, 40], [40, 80, 200], [60, 180, 60]])
data_root = 'DATA'
test_pipeline = [  # mmseg's inference API reads this name
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset', data_root=data_root, metainfo=metainfo, img_suffix='.png',
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
test_cfg = dict(type='TestLoop')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in (1.0, 1.5)],
        [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0., 1.)],
        [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
"""

ESL = """
_base_ = ['./supervised.py', 'ROOT/configs/esl/method.py']
custom_imports = dict(imports=['mmseg_esl.register'], allow_failed_imports=False)
max_iters = 6
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['projector'].update(channels=16)
model['part_memory'].update(num_parts=2, queue_length=8)
model['semi_train_cfg'].update(num_negatives=15, confidence=0.5)
weak_view = [
    dict(type='RandomCrop', crop_size=_base_.crop_size), dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='SemiBatchSampler', num_labeled=2, num_unlabeled=2),
    dataset=dict(
        type='SemiDataset',
        labeled=dict(
            type='BaseSegDataset', data_root=_base_.data_root, metainfo=_base_.metainfo,
            ann_file='labeled.txt', img_suffix='.png',
            data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(
            type='UnlabeledDataset', data_root=_base_.data_root,
            data_prefix=dict(img_path='images/unlabeled'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'),
                      *weak_view])))
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(type='SemiTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='SemiValLoop')
default_hooks = _base_.method_hooks
default_hooks.update(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
randomness = dict(seed=0)
"""

# a method with two trained networks, on the same data
CPS = ''.join(line for line in ESL.splitlines(keepends=True) if not line.startswith("model['"))
CPS = CPS.replace('configs/esl', 'configs/cps').replace('max_iters = 6', 'max_iters = 2')

# data, network, optimiser and loops, for a method to wrap
DATA = """
_base_ = './supervised.py'
weak_view = [
    dict(type='RandomCrop', crop_size=_base_.crop_size), dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='SemiBatchSampler', num_labeled=2, num_unlabeled=2),
    dataset=dict(
        type='SemiDataset',
        labeled=dict(
            type='BaseSegDataset', data_root=_base_.data_root, metainfo=_base_.metainfo,
            ann_file='labeled.txt', img_suffix='.png',
            data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(
            type='UnlabeledDataset', data_root=_base_.data_root,
            data_prefix=dict(img_path='images/unlabeled'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'),
                      *weak_view])))
optim_wrapper = dict(
    type='OptimWrapper', constructor='StudentOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.02))
warm_up = dict(warmup_iters=1, ramp_iters=1)
labeled_only = dict(batch_size=2, batch_sampler=dict(num_unlabeled=0))
train_cfg = dict(type='SemiTrainLoop', max_iters=4, val_interval=4)
val_cfg = dict(type='SemiValLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=2))
"""



def write_images(folder, num_labeled: int = 4, num_unlabeled: int = 6, num_val: int = 3,
                 size: tuple = (48, 64), seed: int = 0) -> None:
    """images/{train,unlabeled,val} and masks/{train,val} below ``folder``, and labeled.txt."""
    folder, rng = Path(folder), np.random.default_rng(seed)
    for part, count in (('train', num_labeled), ('unlabeled', num_unlabeled), ('val', num_val)):
        for index in range(count):
            image, label = draw(rng, size, COLOURS)
            write(folder / f'images/{part}/{part}{index}.png', image)
            if part != 'unlabeled':
                write(folder / f'masks/{part}/{part}{index}.png', label)
    (folder / 'labeled.txt').write_text(''.join(f'train{i}\n' for i in range(num_labeled)))


def write_project(folder, **kwargs) -> Path:
    """Data, supervised.py, esl.py and cps.py below ``folder``; returns the path of esl.py."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / 'data', **kwargs)
    (folder / 'supervised.py').write_text(SUPERVISED.replace('DATA', str(folder / 'data')))
    (folder / 'esl.py').write_text(ESL.replace('ROOT', str(ROOT)))
    (folder / 'cps.py').write_text(CPS.replace('ROOT', str(ROOT)))
    return folder / 'esl.py'
