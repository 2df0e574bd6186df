# CorrMatch, DeepLabV3+ ResNet-101, VOC classic with 183 of 10582 images labelled.
# The authors' README: 78.5 mIoU, at its best epoch.
_base_ = './corrmatch_r50_voc-classic_1-8.py'
model = dict(segmentor=_base_.r101)
