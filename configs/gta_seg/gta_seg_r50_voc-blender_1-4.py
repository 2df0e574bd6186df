# GTA-Seg, DeepLabV3+ ResNet-50, VOC blender with 2646 of 10582 images labelled.
_base_ = ['../u2pl/_base_/voc.py', '../_base_/lists/voc-blender_1-4.py', './method.py']
train_cfg = dict(max_iters=_base_.epochs * _base_.num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['semi_train_cfg'].update(warmup_iters=_base_.num_unlabeled // _base_.images_per_step)
default_hooks = _base_.method_hooks
