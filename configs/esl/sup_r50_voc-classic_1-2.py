# Supervised baseline, DeepLabV3+ ResNet-50, VOC classic with 732 of 10582 images labelled.
# The paper: 66.72 mIoU.
_base_ = '../supervised/supervised_r50_voc-classic_1-2.py'
