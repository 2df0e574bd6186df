# PseudoSeg's release on COCO, where it differs from ours: 64 labelled and 64 unlabelled images a
# step (on 16 GPUs), 200,000 steps at one rate of 7e-3 for backbone and head.
_base_ = '../../_base_/data/coco.py'
train_dataloader = dict(
    batch_size=128, batch_sampler=dict(total_labeled=64, total_unlabeled=64))
optim_wrapper = dict(
    optimizer=dict(lr=7e-3, weight_decay=4e-5), paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
train_cfg = dict(max_iters=200000)
