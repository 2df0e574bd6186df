# Supervised baseline, DeepLabV3+ ResNet-50, VOC blender with 1323 of 10582 images labelled.
# The paper: 68.49 mIoU.
_base_ = '../supervised/supervised_r50_voc-blender_1-8.py'
