# DINOv3 ViT-S/16 with UPerNet. Meta gives its weights out by a form (facebookresearch/dinov3): put
# the file at the path below. Crops should be multiples of 16, such as 512. Head and rates are
# DINOv2's, our choice.
_base_ = './dinov2-s14_upernet.py'
network = dict(backbone=dict(
    model_name='vit_small_patch16_dinov3_qkvb', img_size=512,
    init_cfg=dict(checkpoint='pretrain/dinov3_vits16_pretrain_lvd1689m-08c60483.pth')))
