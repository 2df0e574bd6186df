# Supervised baseline, DeepLabV3+ ResNet-101, VOC classic with 366 of 10582 images labelled.
# The paper: 65.88 mIoU.
_base_ = './sup_r50_voc-classic_1-4.py'
model = dict(segmentor=_base_.r101)
