# Supervised baseline, DeepLabV3+ ResNet-50, VOC classic with 366 of 10582 images labelled.
# The paper: 61.65 mIoU.
_base_ = '../supervised/supervised_r50_voc-classic_1-4.py'
