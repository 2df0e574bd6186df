# Supervised baseline, DeepLabV3+ ResNet-50, Cityscapes with 744 of 2975 images labelled.
# The paper: 74.14 mIoU.
_base_ = '../supervised/supervised_r50_cityscapes_1-4.py'
