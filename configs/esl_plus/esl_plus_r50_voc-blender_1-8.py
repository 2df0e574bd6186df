# ESL+, DeepLabV3+ ResNet-50, VOC blender with 1323 of 10582 images labelled.
_base_ = ['../_base_/partitions/voc-blender_1-8.py', './method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
