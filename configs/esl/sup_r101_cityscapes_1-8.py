# Supervised baseline, DeepLabV3+ ResNet-101, Cityscapes with 372 of 2975 images labelled.
# The paper: 72.53 mIoU.
_base_ = './sup_r50_cityscapes_1-8.py'
model = dict(segmentor=_base_.r101)
