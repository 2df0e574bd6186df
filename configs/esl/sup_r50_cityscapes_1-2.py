# Supervised baseline, DeepLabV3+ ResNet-50, Cityscapes with 1488 of 2975 images labelled.
# The paper: 76.62 mIoU.
_base_ = '../supervised/supervised_r50_cityscapes_1-2.py'
