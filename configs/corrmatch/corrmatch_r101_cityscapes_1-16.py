# CorrMatch, DeepLabV3+ ResNet-101, Cityscapes with 186 of 2975 images labelled.
# The authors' README: 77.3 mIoU, at its best epoch.
_base_ = './corrmatch_r50_cityscapes_1-16.py'
model = dict(segmentor=_base_.r101)
