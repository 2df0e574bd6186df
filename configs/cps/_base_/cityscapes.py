# TorchSemiSeg on Cityscapes, where it differs from ours; see voc.py beside this file.
_base_ = '../../_base_/data/cityscapes.py'
crop_size = (800, 800)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), multi_grid=(2, 4, 8)),
    decode_head=dict(dilations=(1, 6, 12, 18)),
    test_cfg=dict(crop_size=crop_size, stride=(534, 534)))
weights = dict(cps_weight=6.0)  # for leaves of CPS: of semi_train_cfg
weak_view = [
    dict(type='RandomChoiceResize', keep_ratio=True,
         scales=[(1024, 512), (1536, 768), (2048, 1024), (3072, 1536), (3584, 1792), (4096, 2048)]),
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
    optimizer=dict(lr=2.5e-3, weight_decay=1e-4),
    paramwise_cfg=dict(
        norm_decay_mult=0., bias_decay_mult=0., custom_keys=dict(_delete_=True)))
train_cfg = dict(max_iters=44640)  # its 128, 137, 160, 240 epochs of 1/16 to 1/2
