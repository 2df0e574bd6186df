# ReCo's release on Cityscapes, where it differs from ours: images of half the size, crop 512, never
# rescaled, stride 16, plain cross entropy, one rate and Nesterov, 40000 steps, whole images.
_base_ = '../../_base_/data/cityscapes.py'
crop_size, half = (512, 512), [dict(type='Resize', scale=(1024, 512), keep_ratio=True)]
weights = dict(rescale=(1.0, 1.0))  # for leaves: of semi_train_cfg
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(
        dilations=(1, 6, 12, 18),
        loss_decode=dict(_delete_=True, type='CrossEntropyLoss', avg_non_ignore=True)),
    test_cfg=dict(_delete_=True, mode='whole'))
crop = [*half, dict(type='RandomCrop', crop_size=crop_size)]
train_dataloader = dict(dataset=dict(
    labeled=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
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
test_pipeline = [  # scored at full size
    dict(type='LoadImageFromFile'), *half, dict(type='LoadAnnotations'), dict(type='PackSegInputs')
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-3, nesterov=True),
    paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-6, by_epoch=False)]
train_cfg = dict(max_iters=40000)
