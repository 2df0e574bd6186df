# UniMatch V2's release on VOC: crops of 37 patches of 14, 60 epochs, 16 + 16 images; whole images
# in validation.
_base_ = '../../_base_/data/voc.py'
epochs = 60
images_per_step = 16
crop_size = (518, 518)
model = dict(data_preprocessor=dict(size=crop_size))
weak_view = [
    dict(type='RandomResize', scale=(500, 500), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2 * images_per_step,
    batch_sampler=dict(total_labeled=images_per_step, total_unlabeled=images_per_step),
    dataset=dict(
        labeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
