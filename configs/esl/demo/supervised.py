# The demo's baseline: a small DeepLabV3+ from scratch, on the labelled images alone. It stands in
# the same wrapper as ESL, so its teacher is the running average of a purely supervised network.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/esl.py',
]
max_iters = 2000
data_root = 'work_dirs/demo/seed0/data'
crop_size = (72, 72)
metainfo = dict(
    classes=('background', 'person', 'car', 'tree', 'dog'),
    palette=[[70, 70, 70], [213, 94, 0], [0, 114, 178], [0, 158, 115], [240, 228, 66]])

model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)
norm_cfg = dict(type='BN', requires_grad=True)
model['segmentor'].update(pretrained=None, auxiliary_head=None)
model['segmentor']['data_preprocessor'].update(size=crop_size)
model['segmentor']['backbone'].update(  # a ResNet-18, a quarter as wide
    depth=18, stem_channels=16, base_channels=16, norm_cfg=norm_cfg)
model['segmentor']['decode_head'].update(
    in_channels=128, channels=32, dilations=(1, 2, 4, 6), c1_in_channels=16, c1_channels=24,
    num_classes=5, norm_cfg=norm_cfg)
model['projector'].update(channels=64)  # 512 would be out of proportion here
model['semi_train_cfg'].update(variant='sup')

weak_view = [
    dict(type='RandomResize', scale=(96, 72), ratio_range=(0.8, 1.4), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='SemiBatchSampler', num_labeled=8, num_unlabeled=0),
    dataset=dict(
        type='SemiDataset',
        labeled=dict(
            type='BaseSegDataset',
            metainfo=metainfo,
            data_root=data_root,
            ann_file='labeled.txt',
            img_suffix='.png',
            data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(
            type='UnlabeledDataset',
            data_root=data_root,
            ann_file='unlabeled.txt',
            data_prefix=dict(img_path='images/train'),
            pipeline=[
                dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view
            ])))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        metainfo=metainfo,
        data_root=data_root,
        img_suffix='.png',
        data_prefix=dict(img_path='images/test', seg_map_path='masks/test'),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(type='PerClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=30, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='SemiTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='TeacherStudentValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=max_iters),
    sampler_seed=dict(type='DistSamplerSeedHook'))
custom_hooks = [*_base_.esl_hooks, dict(type='PseudoLabelAuditHook', interval=500, max_images=24)]
