# Supervised baseline, DeepLabV3+ ResNet-101, Cityscapes with 744 of 2975 images labelled.
# The paper: 74.43 mIoU.
_base_ = './sup_r50_cityscapes_1-4.py'
model = dict(segmentor=_base_.r101)
