# PC2Seg-style, DeepLabV3+ Xception-65, COCO with 1849 of 118287 images labelled.
_base_ = ['../pseudoseg/_base_/coco.py', '../_base_/lists/coco_1-64.py', './method.py']
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
