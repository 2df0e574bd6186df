# Supervised baseline, DeepLabV3+ ResNet-50, Cityscapes with 372 of 2975 images labelled.
# The paper: 68.73 mIoU.
_base_ = '../supervised/supervised_r50_cityscapes_1-8.py'
