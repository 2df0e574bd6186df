# ReCo, DeepLabV3+ ResNet-50, Cityscapes with 1488 of 2975 images labelled.
_base_ = ['./_base_/cityscapes.py', '../_base_/lists/cityscapes_1-2.py', './method.py']
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['semi_train_cfg'].update(_base_.weights)
default_hooks = _base_.method_hooks
