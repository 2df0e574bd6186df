# Supervised baseline, DeepLabV3+ ResNet-50, VOC classic with 1464 of 10582 images labelled.
# The paper: 71.43 mIoU.
_base_ = '../supervised/supervised_r50_voc-classic_full.py'
