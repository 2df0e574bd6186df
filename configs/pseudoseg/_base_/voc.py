# PseudoSeg's release on VOC, where it differs from ours: stride 16, 64 labelled and 64 unlabelled
# images a step (on 16 GPUs), 30,000 steps at one rate of 7e-3 for backbone and head, whole images.
_base_ = '../../_base_/data/voc.py'
model = dict(
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(dilations=(1, 6, 12, 18)))
train_dataloader = dict(
    batch_size=128, batch_sampler=dict(total_labeled=64, total_unlabeled=64))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=7e-3, weight_decay=1e-4), paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
train_cfg = dict(max_iters=30000)
