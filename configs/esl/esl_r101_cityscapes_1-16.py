# ESL, DeepLabV3+ ResNet-101, Cityscapes with 186 of 2975 images labelled.
# The paper: 75.12 mIoU.
_base_ = './esl_r50_cityscapes_1-16.py'
model = dict(segmentor=_base_.r101)
