# PS-MT's release on VOC, where it differs from ours: 32 labelled and 32 unlabelled images a step,
# crop 512, long sides of 600, stride 16 with a multi-grid, one rate for backbone and head, whole
# images.
_base_ = '../../_base_/data/voc.py'
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), multi_grid=(2, 4, 8)),
    decode_head=dict(dilations=(1, 6, 12, 18)))
weak_view = [
    dict(type='RandomResize', scale=(600, 600), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
images_per_step = 32
train_dataloader = dict(
    batch_size=64,
    batch_sampler=dict(total_labeled=32, total_unlabeled=32),
    dataset=dict(
        labeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=1e-2), paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
