# Supervised baseline, DeepLabV3+ ResNet-50, VOC classic with 183 of 10582 images labelled.
# The paper: 52.26 mIoU.
_base_ = '../supervised/supervised_r50_voc-classic_1-8.py'
