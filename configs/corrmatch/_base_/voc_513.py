# CorrMatch's release on VOC, where it differs from ours: 16 + 16 images, no dropout in the decoder,
# whole images; the correlation head learns as fast as the decoder.
_base_ = '../../_base_/data/voc.py'
images_per_step = 16
model = dict(decode_head=dict(dropout_ratio=0))
train_dataloader = dict(
    batch_size=2 * images_per_step,
    batch_sampler=dict(total_labeled=images_per_step, total_unlabeled=images_per_step))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(correlation=dict(lr_mult=10))))
