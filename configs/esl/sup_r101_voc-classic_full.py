# Supervised baseline, DeepLabV3+ ResNet-101, VOC classic with 1464 of 10582 images labelled.
# The paper: 72.50 mIoU.
_base_ = './sup_r50_voc-classic_full.py'
model = dict(segmentor=_base_.r101)
