# ConvNeXt-T of timm (pip install timm) with UPerNet, for any data and method: docs/configs.md,
# "Another network". `model_name` may be any other of timm that gives maps, with their channels.
network = dict(  # num_classes and loss_decode are the data's
    pretrained=None,
    backbone=dict(
        type='TIMMBackbone', model_name='convnext_tiny', features_only=True,
        out_indices=(0, 1, 2, 3),
        pretrained=True,  # timm downloads the weights, or reads a file of yours:
        # pretrained_cfg_overlay=dict(file='pretrain/convnext_tiny.safetensors')
    ),
    decode_head=dict(
        type='UPerHead', in_channels=[96, 192, 384, 768], in_index=[0, 1, 2, 3], channels=256,
        pool_scales=(1, 2, 3, 6), dropout_ratio=0.1, align_corners=False,
        norm_cfg=dict(type='SyncBN', requires_grad=True)),
    auxiliary_head=None)
# Our choice, as for DINOv2: a small rate for the backbone, more for whatever is new.
network_optim = dict(
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1 / 10))))
