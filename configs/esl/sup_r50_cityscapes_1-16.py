# Supervised baseline, DeepLabV3+ ResNet-50, Cityscapes with 186 of 2975 images labelled.
# The paper: 63.34 mIoU.
_base_ = '../supervised/supervised_r50_cityscapes_1-16.py'
