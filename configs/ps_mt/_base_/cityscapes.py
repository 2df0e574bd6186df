# PS-MT's release on Cityscapes, as the tables quote it (its README's crop 720): cross entropy of
# all pixels, stride 16 with a multi-grid, one rate for backbone and head.
_base_ = '../../_base_/data/cityscapes.py'
crop_size = (720, 720)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), multi_grid=(2, 4, 8)),
    decode_head=dict(
        dilations=(1, 6, 12, 18),
        loss_decode=dict(_delete_=True, type='CrossEntropyLoss', avg_non_ignore=True)),
    test_cfg=dict(crop_size=crop_size, stride=(480, 480)))
weights = dict(unlabeled_weight=3.0, cutmix='three')  # for leaves: of semi_train_cfg
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
    optimizer=dict(lr=4.5e-3, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
