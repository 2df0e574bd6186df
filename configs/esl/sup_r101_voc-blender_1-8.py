# Supervised baseline, DeepLabV3+ ResNet-101, VOC blender with 1323 of 10582 images labelled.
# The paper: 71.55 mIoU.
_base_ = './sup_r50_voc-blender_1-8.py'
model = dict(segmentor=_base_.r101)
