# Supervised baseline, DeepLabV3+ ResNet-50, VOC blender with 2646 of 10582 images labelled.
# The paper: 72.46 mIoU.
_base_ = '../supervised/supervised_r50_voc-blender_1-4.py'
