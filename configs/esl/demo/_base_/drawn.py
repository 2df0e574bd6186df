# The demo's drawn images and its network, a small DeepLabV3+ from scratch.
_base_ = ['mmseg::_base_/models/deeplabv3plus_r50-d8.py', '../../../_base_/runtime.py']
max_iters = 2000
data_root = 'work_dirs/demo/seed0/data'
crop_size = (72, 72)
metainfo = dict(
    classes=('background', 'person', 'car', 'tree', 'dog'),
    palette=[[70, 70, 70], [213, 94, 0], [0, 114, 178], [0, 158, 115], [240, 228, 66]])

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    auxiliary_head=None,
    data_preprocessor=dict(size=crop_size),
    backbone=dict(  # a ResNet-18, a quarter as wide
        depth=18, stem_channels=16, base_channels=16, norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=128, channels=32, dilations=(1, 2, 4, 6), c1_in_channels=16, c1_channels=24,
        num_classes=5, norm_cfg=norm_cfg))

weak_view = [
    dict(type='RandomResize', scale=(96, 72), ratio_range=(0.8, 1.4), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='SemiBatchSampler', num_labeled=8, num_unlabeled=8),
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

labeled_only = dict(batch_size=8, batch_sampler=dict(num_unlabeled=0))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=30, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
custom_hooks = [dict(type='PseudoLabelAuditHook', interval=500, max_images=24)]
