# CorrMatch, DeepLabV3+ ResNet-101, VOC classic with 1464 of 10582 images labelled.
# The authors' README: 81.8 mIoU, at its best epoch.
_base_ = './corrmatch_r50_voc-classic_full.py'
model = dict(segmentor=_base_.r101)
