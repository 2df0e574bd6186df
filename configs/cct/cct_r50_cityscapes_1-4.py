# CCT, DeepLabV3+ ResNet-50, Cityscapes with 744 of 2975 images labelled.
# As quoted in ESL's tables: 75.68 mIoU.
_base_ = ['../cps/_base_/cityscapes.py', '../_base_/lists/cityscapes_1-4.py', './method.py']
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['aux_decoders'] = dict(background_class=None)  # there is none
default_hooks = _base_.method_hooks
