# ESL, DeepLabV3+ ResNet-101, VOC classic with 92 of 10582 images labelled.
# The paper: 70.97 mIoU.
_base_ = './esl_r50_voc-classic_1-16.py'
model = dict(segmentor=_base_.r101)
