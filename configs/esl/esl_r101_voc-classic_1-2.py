# ESL, DeepLabV3+ ResNet-101, VOC classic with 732 of 10582 images labelled.
# The paper: 79.53 mIoU.
_base_ = './esl_r50_voc-classic_1-2.py'
model = dict(segmentor=_base_.r101)
