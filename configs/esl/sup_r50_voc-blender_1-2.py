# Supervised baseline, DeepLabV3+ ResNet-50, VOC blender with 5291 of 10582 images labelled.
# The paper: 75.14 mIoU.
_base_ = '../supervised/supervised_r50_voc-blender_1-2.py'
