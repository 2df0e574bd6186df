# ESL+, DeepLabV3+ ResNet-50, Cityscapes with 372 of 2975 images labelled.
_base_ = ['../_base_/partitions/cityscapes_1-8.py', './method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
