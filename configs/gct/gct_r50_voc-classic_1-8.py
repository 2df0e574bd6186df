# GCT, DeepLabV3+ ResNet-50, VOC classic with 183 of 10582 images labelled.
_base_ = ['../cps/_base_/voc.py', '../_base_/lists/voc-classic_1-8.py', './method.py']
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['semi_train_cfg'].update(  # 3 epochs, as in TorchSemiSeg
    dc_ramp_iters=3 * _base_.num_unlabeled // _base_.images_per_step)
optim_wrapper = _base_.method_optim
default_hooks = _base_.method_hooks
