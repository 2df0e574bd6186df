# Supervised baseline, DeepLabV3+ ResNet-101, VOC classic with 183 of 10582 images labelled.
# The paper: 54.92 mIoU.
_base_ = './sup_r50_voc-classic_1-8.py'
model = dict(segmentor=_base_.r101)
