# Supervised baseline, DeepLabV3+ ResNet-101, VOC classic with 732 of 10582 images labelled.
# The paper: 71.69 mIoU.
_base_ = './sup_r50_voc-classic_1-2.py'
model = dict(segmentor=_base_.r101)
