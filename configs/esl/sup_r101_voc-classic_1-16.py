# Supervised baseline, DeepLabV3+ ResNet-101, VOC classic with 92 of 10582 images labelled.
# The paper: 45.77 mIoU.
_base_ = './sup_r50_voc-classic_1-16.py'
model = dict(segmentor=_base_.r101)
