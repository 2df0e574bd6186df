# Supervised baseline, DeepLabV3+ Xception-65, COCO with 3697 of 118287 images labelled.
# The paper: 42.24 mIoU.
_base_ = './esl_xception65_coco_1-32.py'
model = _base_.supervised.model
train_dataloader = _base_.supervised.train_dataloader
default_hooks = _base_.supervised.default_hooks
