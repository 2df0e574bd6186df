# PC2Seg-style, DeepLabV3+ ResNet-50, Cityscapes with 372 of 2975 images labelled.
_base_ = ['../pseudoseg/_base_/cityscapes.py', '../_base_/lists/cityscapes_1-8.py', './method.py']
train_cfg = dict(max_iters=_base_.epochs * _base_.num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
