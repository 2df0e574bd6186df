# ESL, DINOv2 ViT-B/14 (mmpretrain) with UPerNet, VOC classic with 92 images labelled. Not in the
# paper: backbone, head, crop (37 patches of 14), optimiser and rates are our choice.
_base_ = './esl_r50_voc-classic_1-16.py'
custom_imports = dict(
    imports=['mmseg_esl.register', 'mmpretrain.models'], allow_failed_imports=False)
crop_size = (518, 518)
norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(segmentor=dict(
    pretrained=None,
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        _delete_=True, type='mmpretrain.VisionTransformer', arch='base', img_size=518,
        patch_size=14, layer_scale_init_value=1e-5, out_type='featmap', out_indices=(2, 5, 8, 11),
        init_cfg=dict(
            type='Pretrained', prefix='backbone.',
            checkpoint='https://download.openmmlab.com/mmpretrain/v1.0/dinov2/'
                       'vit-base-p14_dinov2-pre_3rdparty_20230426-ba246503.pth')),
    neck=dict(
        type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        _delete_=True, type='UPerHead', in_channels=[768] * 4, in_index=[0, 1, 2, 3], channels=256,
        pool_scales=(1, 2, 3, 6), dropout_ratio=0.1, num_classes=21, norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    auxiliary_head=None))

weak_view = [dict(step) for step in _base_.weak_view]
weak_view[1].update(crop_size=crop_size)
train_dataloader = dict(dataset=dict(
    labeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view])))

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-5, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(neck=dict(lr_mult=10))))
