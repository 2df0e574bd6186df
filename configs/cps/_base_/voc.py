# TorchSemiSeg (the release of CPS, whose authors ran Mean Teacher too) on VOC, where it differs
# from ours: crop 512, six fixed scales, stride 16 with a multi-grid, one small rate for backbone
# and head, no decay of norms and biases, sliding window.
_base_ = '../../_base_/data/voc.py'
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), multi_grid=(2, 4, 8)),
    decode_head=dict(dilations=(1, 6, 12, 18)),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(342, 342)))
weak_view = [
    dict(type='RandomChoiceResize', keep_ratio=True,
         scales=[(250, 250), (375, 375), (500, 500), (750, 750), (875, 875), (1000, 1000)]),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(
    labeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
# What the release's rate of 0.0025 x GPUs comes to, as its losses are divided by the GPUs twice.
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-3),
    paramwise_cfg=dict(
        norm_decay_mult=0., bias_decay_mult=0., custom_keys=dict(_delete_=True)))
train_cfg = dict(max_iters=39680)  # its 32, 34, 40, 60 epochs of 1/16 to 1/2 all come to about that
