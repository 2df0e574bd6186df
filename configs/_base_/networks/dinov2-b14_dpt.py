# DINOv2 ViT-B/14 (of timm: pip install timm) with DPT: UniMatch V2's network and optimiser, for any
# data and method (docs/configs.md, "Another network"). Crops should be multiples of 14; others are
# resized to the nearest one.
network = dict(  # num_classes and loss_decode are the data's
    pretrained=None,
    backbone=dict(
        type='TIMMPlainViT', model_name='vit_base_patch14_dinov2', img_size=518,
        out_indices=(2, 5, 8, 11),
        init_cfg=dict(
            type='Pretrained', checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/'
                                          'dinov2_vitb14_pretrain.pth')),
    decode_head=dict(
        type='MapDPTHead', input_transform='multiple_select', in_index=[0, 1, 2, 3],
        in_channels=[768] * 4, embed_dims=768, channels=128,
        post_process_channels=[96, 192, 384, 768], norm_cfg=None, dropout_ratio=0,
        align_corners=True),
    auxiliary_head=None)
# A small rate for the backbone, 40 times that for whatever is new, a method's own parts too.
network_optim = dict(
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1 / 40))))
