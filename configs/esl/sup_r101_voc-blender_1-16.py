# Supervised baseline, DeepLabV3+ ResNet-101, VOC blender with 662 of 10582 images labelled.
# The paper: 67.87 mIoU.
_base_ = './sup_r50_voc-blender_1-16.py'
model = dict(segmentor=_base_.r101)
