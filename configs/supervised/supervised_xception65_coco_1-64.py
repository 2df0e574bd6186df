# Supervised baseline, DeepLabV3+ Xception-65, COCO with 1849 of 118287 images labelled.
# The paper: 37.80 mIoU.
_base_ = ['../_base_/partitions/coco_1-64.py', './method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
train_dataloader = _base_.labeled_only
default_hooks = _base_.method_hooks
