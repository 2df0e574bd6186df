# UniMatch V2's release on Cityscapes: crops of 57 patches of 14, 180 epochs, 8 + 8 images; windows
# of the crop's size in validation (stride two thirds of it, as in UniMatch's).
_base_ = '../../_base_/data/cityscapes.py'
epochs = 180
crop_size = (798, 798)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(loss_decode=dict(min_kept=200000)),
    test_cfg=dict(crop_size=crop_size, stride=(532, 532)))
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
