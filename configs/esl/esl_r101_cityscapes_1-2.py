# ESL, DeepLabV3+ ResNet-101, Cityscapes with 1488 of 2975 images labelled.
# The paper: 80.46 mIoU.
_base_ = './esl_r50_cityscapes_1-2.py'
model = dict(segmentor=_base_.r101)
