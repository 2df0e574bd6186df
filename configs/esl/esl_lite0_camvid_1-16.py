# ESL, DeepLabV3+ EfficientNet-Lite0, CamVid with 23 of 367 images labelled: small enough for a
# CPU. Other partitions: train_dataloader.dataset.{labeled,unlabeled}.ann_file.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    'mmseg::_base_/default_runtime.py',
    './_base_/esl.py',
    './_base_/camvid.py',
]
max_iters = 1500

model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)
model['segmentor'].update(
    pretrained=None,
    auxiliary_head=None,
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=_base_.crop_size))
# Stride 32, not 16: on a CPU the backward of a dilated depthwise convolution takes a slow path.
model['segmentor']['backbone'] = dict(
    type='TIMMBackbone', model_name='tf_efficientnet_lite0', features_only=True, pretrained=True,
    output_stride=32, out_indices=(1, 2, 3, 4))
model['segmentor']['decode_head'].update(
    in_channels=320, channels=128, dilations=(1, 2, 3, 4), c1_in_channels=24, c1_channels=24,
    num_classes=11, norm_cfg=dict(type='BN', requires_grad=True))
model['segmentor']['decode_head']['loss_decode']['avg_non_ignore'] = True  # mean over valid pixels
model['projector'].update(channels=128)  # as wide as this small decoder
# In so short a run the young teacher's mistakes would rule: begin supervised, then ramp up.
model['semi_train_cfg'].update(warmup_iters=300, ramp_iters=300)
custom_hooks = [*_base_.esl_hooks, dict(type='ProtocolHook')]
custom_hooks[1].update(  # PartInitHook: parts at the scale of training
    transforms=[dict(type='Resize', scale=(320, 240), keep_ratio=True)])

param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(type='SemiTrainLoop', max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
