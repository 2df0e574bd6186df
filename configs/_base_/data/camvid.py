# CamVid on a CPU: DeepLabV3+ on an EfficientNet-Lite0 from timm (pip install timm), 4 labelled and
# 4 unlabelled images a step, 1500 steps. One recipe for every method, so that figures compare.
_base_ = ['mmseg::_base_/models/deeplabv3plus_r50-d8.py', '../runtime.py', './camvid_images.py']
max_iters = 1500

model = dict(
    pretrained=None,
    auxiliary_head=None,
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, size=_base_.crop_size),
    # Stride 32, not 16: on a CPU the backward of a dilated depthwise convolution takes a slow path.
    backbone=dict(
        _delete_=True, type='TIMMBackbone', model_name='tf_efficientnet_lite0', features_only=True,
        pretrained=True, output_stride=32, out_indices=(1, 2, 3, 4)),
    decode_head=dict(
        in_channels=320, channels=128, dilations=(1, 2, 3, 4), c1_in_channels=24, c1_channels=24,
        num_classes=11, norm_cfg=dict(type='BN', requires_grad=True),
        loss_decode=dict(avg_non_ignore=True)))  # mean over valid pixels
# For leaves. In so short a run the young network's mistakes would rule: begin supervised, ramp up.
warm_up = dict(warmup_iters=300, ramp_iters=300)
labeled_only = dict(batch_size=4, batch_sampler=dict(num_unlabeled=0))

param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
