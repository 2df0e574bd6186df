# Supervised baseline, DeepLabV3+ ResNet-101, VOC blender with 5291 of 10582 images labelled.
# The paper: 77.13 mIoU.
_base_ = './sup_r50_voc-blender_1-2.py'
model = dict(segmentor=_base_.r101)
