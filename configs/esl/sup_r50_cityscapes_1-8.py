# Supervised baseline, DeepLabV3+ ResNet-50, Cityscapes with 372 of 2975 images labelled.
# The paper: 68.73 mIoU.
_base_ = './esl_r50_cityscapes_1-8.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
