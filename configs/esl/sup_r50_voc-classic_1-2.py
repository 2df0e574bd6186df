# Supervised baseline, DeepLabV3+ ResNet-50, VOC classic with 732 of 10582 images labelled.
# The paper: 66.72 mIoU.
_base_ = './esl_r50_voc-classic_1-2.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
