# UniMatch V2's release on VOC but for the decoder, which is ours: UPerNet on a feature pyramid made
# of four blocks' tokens, by mmpretrain, where the release has DPT (voc_dinov2-b14_dpt.py). Rates
# are the release's: a small one for the backbone and 40 times that for the rest.
_base_ = './voc_518.py'
custom_imports = dict(
    imports=['mmseg_esl.register', 'mmpretrain.models'], allow_failed_imports=False)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    pretrained=None,
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
        pool_scales=(1, 2, 3, 6), dropout_ratio=0, num_classes=21, norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    auxiliary_head=None)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='AdamW', lr=5e-6, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(
        _delete_=True, decode_head=dict(lr_mult=40), neck=dict(lr_mult=40))))
