# CorrMatch, DeepLabV3+ ResNet-101, VOC classic with 366 of 10582 images labelled.
# The authors' README: 79.4 mIoU, at its best epoch.
_base_ = './corrmatch_r50_voc-classic_1-4.py'
model = dict(segmentor=_base_.r101)
