# ESL, DeepLabV3+ ResNet-101, VOC classic with 1464 of 10582 images labelled.
# The paper: 81.77 mIoU.
_base_ = './esl_r50_voc-classic_full.py'
model = dict(segmentor=_base_.r101)
