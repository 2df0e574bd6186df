# ESL+, DeepLabV3+ ResNet-50, VOC classic with 366 of 10582 images labelled.
_base_ = ['../_base_/partitions/voc-classic_1-4.py', './method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
