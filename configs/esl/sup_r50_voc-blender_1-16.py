# Supervised baseline, DeepLabV3+ ResNet-50, VOC blender with 662 of 10582 images labelled.
# The paper: 63.72 mIoU.
_base_ = '../supervised/supervised_r50_voc-blender_1-16.py'
