# Supervised baseline, DeepLabV3+ ResNet-101, VOC blender with 662 of 10582 images labelled.
# The paper: 67.87 mIoU.
_base_ = './esl_r101_voc-blender_1-16.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
