# ESL+, DeepLabV3+ EfficientNet-Lite0, CamVid with 23 of 367 images labelled.
_base_ = ['../_base_/partitions/camvid_1-16.py', './method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['semi_train_cfg'].update(_base_.warm_up)
default_hooks = _base_.method_hooks
