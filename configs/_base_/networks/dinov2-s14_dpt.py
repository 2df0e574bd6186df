# DINOv2 ViT-S/14 with DPT, where it differs from ViT-B/14.
_base_ = './dinov2-b14_dpt.py'
network = dict(
    backbone=dict(
        model_name='vit_small_patch14_dinov2',
        init_cfg=dict(checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/'
                                 'dinov2_vits14_pretrain.pth')),
    decode_head=dict(in_channels=[384] * 4, embed_dims=384, channels=64,
                     post_process_channels=[48, 96, 192, 384]))
