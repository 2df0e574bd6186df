# CCT, DeepLabV3+ ResNet-50, VOC blender with 662 of 10582 images labelled.
# As quoted in ESL's tables: 65.22 mIoU.
_base_ = ['../cps/_base_/voc.py', '../_base_/lists/voc-blender_1-16.py', './method.py']
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
