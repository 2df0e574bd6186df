# The study's CamVid at full size, for a GPU: images of 480 x 360, crops of 320, 4000 iterations, 23
# of 367 images labelled; network, optimiser and evaluation as in camvid_1-16.py.
_base_ = './camvid_1-16.py'
crop_size = (320, 320)
max_iters = 4000
weak_view = [
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
model = dict(data_preprocessor=dict(size=crop_size))
train_dataloader = dict(
    num_workers=3,
    persistent_workers=True,
    dataset=dict(
        labeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
val_dataloader = dict(num_workers=2, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=2, dataset=dict(pipeline=test_pipeline))
warm_up = dict(warmup_iters=800, ramp_iters=800)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=1000)  # a run that is cut has shown something
default_hooks = dict(checkpoint=dict(interval=1000))
