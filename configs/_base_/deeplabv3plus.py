# What the experiments on VOC, Cityscapes and COCO share: DeepLabV3+ with stride 8, SGD and poly 0.9
# down to zero, 8 labelled and 8 unlabelled images a step. It is the ESL paper's setting; which of
# it is the paper's and which our choice: docs/reproduce.md.
_base_ = ['mmseg::_base_/models/deeplabv3plus_r50-d8.py', './runtime.py']
model = dict(
    decode_head=dict(
        align_corners=True,  # crops are odd: 513, 769
        loss_decode=dict(avg_non_ignore=True)),  # mean over valid pixels
    auxiliary_head=dict(align_corners=True))  # frozen unless semi_train_cfg.auxiliary_loss

# For leaves: model = dict(segmentor=_base_.r101)
r101 = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

# For leaves: train_dataloader = _base_.labeled_only
labeled_only = dict(batch_size=8, batch_sampler=dict(total_unlabeled=0))

images_per_step = 8  # unlabelled ones, of all GPUs together: epochs count over them
train_dataloader = dict(
    batch_size=16,  # of all GPUs together too
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='SemiBatchSampler', total_labeled=8, total_unlabeled=8),
    dataset=dict(type='SemiDataset'))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

# Decoder (and ESL's projector, where there is one) learn ten times faster than the backbone.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='StudentOptimWrapperConstructor',
    optimizer=dict(type='SGD', momentum=0.9),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), projector=dict(lr_mult=10))))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False)]  # to max_iters
