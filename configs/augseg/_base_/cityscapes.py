# AugSeg's release on Cityscapes, where it differs from ours: crop 800, 16 + 16 images, stride 16
# with a multi-grid, one rate for backbone and head, 240 epochs; every pixel's label counts.
_base_ = '../../_base_/data/cityscapes.py'
epochs = 240
images_per_step = 16
crop_size = (800, 800)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), multi_grid=(2, 4, 8)),
    decode_head=dict(dilations=(1, 6, 12, 18)),
    test_cfg=dict(crop_size=crop_size, stride=(534, 534)))
weights = dict(threshold=0.0, ema_momentum=0.996)  # for leaves: of semi_train_cfg
weak_view = [
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2 * images_per_step,
    batch_sampler=dict(total_labeled=images_per_step, total_unlabeled=images_per_step),
    dataset=dict(
        labeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
