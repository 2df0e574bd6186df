# Supervised baseline, DeepLabV3+ ResNet-101, VOC blender with 2646 of 10582 images labelled.
# The paper: 75.80 mIoU.
_base_ = './sup_r50_voc-blender_1-4.py'
model = dict(segmentor=_base_.r101)
