# Supervised baseline, DeepLabV3+ ResNet-50, VOC classic with 92 of 10582 images labelled.
# The paper: 44.03 mIoU.
_base_ = '../supervised/supervised_r50_voc-classic_1-16.py'
