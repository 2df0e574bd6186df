# CorrMatch's release on Cityscapes, where it differs from ours: crop 801 at stride 8, no dropout,
# one rate of 5e-3 for all, 240 epochs. The correlation of an image has 101 ** 4 values.
_base_ = '../../_base_/data/cityscapes.py'
epochs = 240
crop_size = (801, 801)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(dropout_ratio=0),
    test_cfg=dict(crop_size=crop_size, stride=(534, 534)))
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
