# ESL, DeepLabV3+ ResNet-101, VOC classic with 366 of 10582 images labelled.
# The paper: 78.14 mIoU.
_base_ = './esl_r50_voc-classic_1-4.py'
model = dict(segmentor=_base_.r101)
