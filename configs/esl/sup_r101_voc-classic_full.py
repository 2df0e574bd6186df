# Supervised baseline, DeepLabV3+ ResNet-101, VOC classic with 1464 of 10582 images labelled.
# The paper: 72.50 mIoU.
_base_ = './esl_r101_voc-classic_full.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
