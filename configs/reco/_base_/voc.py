# ReCo's release on VOC, where it differs from ours: crop 321, stride 16, unlabelled images that are
# only cropped (the strong view rescales and mirrors them), one rate and Nesterov, 40000 steps,
# whole images.
_base_ = '../../_base_/data/voc.py'
crop_size = (321, 321)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(dilations=(1, 6, 12, 18)))
crop = [dict(type='RandomCrop', crop_size=crop_size)]
train_dataloader = dict(dataset=dict(
    labeled=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=(500, 500), ratio_range=(0.5, 1.5), keep_ratio=True),
        *crop,
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs')
    ]),
    unlabeled=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadEmptyAnnotations'),
        *crop,
        dict(type='PackSegInputs')
    ])))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-3, weight_decay=5e-4, nesterov=True),
    paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-6, by_epoch=False)]
train_cfg = dict(max_iters=40000)
