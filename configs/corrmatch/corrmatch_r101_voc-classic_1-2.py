# CorrMatch, DeepLabV3+ ResNet-101, VOC classic with 732 of 10582 images labelled.
# The authors' README: 80.6 mIoU, at its best epoch.
_base_ = './corrmatch_r50_voc-classic_1-2.py'
model = dict(segmentor=_base_.r101)
