# Supervised baseline, DeepLabV3+ ResNet-101, Cityscapes with 1488 of 2975 images labelled.
# The paper: 77.83 mIoU.
_base_ = './sup_r50_cityscapes_1-2.py'
model = dict(segmentor=_base_.r101)
