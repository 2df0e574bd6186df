# ESL, DeepLabV3+ Xception-65, COCO with 925 of 118287 images labelled.
# The paper: 44.37 mIoU.
_base_ = ['../_base_/partitions/coco_1-128.py', './method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
