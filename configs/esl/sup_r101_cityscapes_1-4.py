# Supervised baseline, DeepLabV3+ ResNet-101, Cityscapes with 744 of 2975 images labelled.
# The paper: 74.43 mIoU.
_base_ = './esl_r101_cityscapes_1-4.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
