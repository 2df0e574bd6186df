# ESL, DeepLabV3+ ResNet-101, VOC classic with 183 of 10582 images labelled.
# The paper: 74.06 mIoU.
_base_ = './esl_r50_voc-classic_1-8.py'
model = dict(segmentor=_base_.r101)
