# Supervised baseline, DeepLabV3+ ResNet-101, Cityscapes with 186 of 2975 images labelled.
# The paper: 65.74 mIoU.
_base_ = './sup_r50_cityscapes_1-16.py'
model = dict(segmentor=_base_.r101)
