# DINOv3 ViT-B/16 with UPerNet. Meta gives its weights out by a form (facebookresearch/dinov3): put
# the file at the path below. Crops should be multiples of 16, such as 512. Head and rates are
# DINOv2's, our choice.
_base_ = './dinov2-b14_upernet.py'
network = dict(backbone=dict(
    model_name='vit_base_patch16_dinov3_qkvb', img_size=512,
    init_cfg=dict(checkpoint='pretrain/dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth')))
