# Supervised baseline, DeepLabV3+ ResNet-50, VOC blender with 2646 of 10582 images labelled.
# The paper: 72.46 mIoU.
_base_ = './esl_r50_voc-blender_1-4.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
