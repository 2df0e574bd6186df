# UniMatch's release on Cityscapes, where it differs from ours: crop 801, stride 16, no dropout, one
# rate of 5e-3 for backbone and head, 240 epochs; every pixel's label counts.
_base_ = '../../_base_/data/cityscapes.py'
epochs = 240
crop_size = (801, 801)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(
        dilations=(1, 6, 12, 18), dropout_ratio=0, loss_decode=dict(min_kept=200000)),
    test_cfg=dict(crop_size=crop_size, stride=(534, 534)))
weights = dict(threshold=0.0)  # for leaves: of semi_train_cfg
weak_view = [
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(
    labeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
optim_wrapper = dict(
    optimizer=dict(lr=5e-3, weight_decay=1e-4), paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
