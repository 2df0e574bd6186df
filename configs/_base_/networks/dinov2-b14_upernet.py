# DINOv2 ViT-B/14 with UPerNet on a feature pyramid made of four blocks' tokens: our choice, where
# UniMatch V2 has DPT. Channels that a method drops are the pyramid's.
_base_ = './dinov2-b14_dpt.py'
network = dict(
    neck=dict(
        type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5],
        norm_cfg=dict(type='SyncBN', requires_grad=True)),
    decode_head=dict(
        _delete_=True, type='UPerHead', in_channels=[768] * 4, in_index=[0, 1, 2, 3], channels=256,
        pool_scales=(1, 2, 3, 6), dropout_ratio=0, align_corners=False,
        norm_cfg=dict(type='SyncBN', requires_grad=True)))
