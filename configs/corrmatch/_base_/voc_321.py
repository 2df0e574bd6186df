# The same with crops of 321, as its tables of the classic protocol have it.
_base_ = './voc_513.py'
crop_size = (321, 321)
model = dict(data_preprocessor=dict(size=crop_size))
weak_view = [
    dict(type='RandomResize', scale=(500, 500), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(
    labeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
