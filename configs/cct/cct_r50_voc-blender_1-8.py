# CCT, DeepLabV3+ ResNet-50, VOC blender with 1323 of 10582 images labelled.
# As quoted in ESL's tables: 70.87 mIoU.
_base_ = ['../cps/_base_/voc.py', '../_base_/lists/voc-blender_1-8.py', './method.py']
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
