# ESL, DeepLabV3+ EfficientNet-Lite0, CamVid with 23 of 367 images labelled: small enough for a
# CPU. Other partitions: train_dataloader.dataset.{labeled,unlabeled}.ann_file.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    'mmseg::_base_/default_runtime.py',
    './_base_/esl.py',
    './_base_/camvid.py',
]
max_iters = 500

model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)
model['segmentor'].update(
    pretrained=None,
    auxiliary_head=None,
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=_base_.crop_size),
    backbone=dict(
        type='TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        pretrained=True,
        output_stride=16,
        out_indices=(1, 2, 3, 4)))
model['segmentor']['decode_head'].update(
    in_channels=320, channels=128, dilations=(1, 6, 12, 18), c1_in_channels=24, c1_channels=24,
    num_classes=11, norm_cfg=dict(type='BN', requires_grad=True))
model['segmentor']['decode_head']['loss_decode']['avg_non_ignore'] = True  # mean over valid pixels
model['projector'].update(channels=128)  # as wide as this small decoder

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), projector=dict(lr_mult=10))))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='TeacherStudentValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=max_iters),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
