# Supervised baseline, DeepLabV3+ ResNet-50, Cityscapes with 1488 of 2975 images labelled.
# The paper: 76.62 mIoU.
_base_ = './esl_r50_cityscapes_1-2.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
