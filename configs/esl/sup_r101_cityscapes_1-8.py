# Supervised baseline, DeepLabV3+ ResNet-101, Cityscapes with 372 of 2975 images labelled.
# The paper: 72.53 mIoU.
_base_ = './esl_r101_cityscapes_1-8.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
