# AugSeg's release on VOC, where it differs from ours: 16 + 16 images, stride 16 with a multi-grid,
# whole images.
_base_ = '../../_base_/data/voc.py'
images_per_step = 16
model = dict(
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), multi_grid=(2, 4, 8)),
    decode_head=dict(dilations=(1, 6, 12, 18)))
train_dataloader = dict(
    batch_size=2 * images_per_step,
    batch_sampler=dict(total_labeled=images_per_step, total_unlabeled=images_per_step))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
