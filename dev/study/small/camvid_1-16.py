# The study's CamVid at a third of its size: supervised training has converged after 1500 iterations
# and a few minutes of one CPU core, so that every method can be tried on what it leaves.
_base_ = '../camvid_1-16.py'
crop_size = (96, 128)
max_iters = 1500
weak_view = [
    dict(type='RandomResize', scale=(160, 120), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 120), keep_ratio=True),
    dict(type='LoadAnnotations'),  # after Resize: scored at the full 480 x 360
    dict(type='PackSegInputs')
]
model = dict(data_preprocessor=dict(size=crop_size))
train_dataloader = dict(dataset=dict(
    labeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
