# GCT, DeepLabV3+ ResNet-50, Cityscapes with 1488 of 2975 images labelled.
# As quoted in ESL's tables: 77.09 mIoU.
_base_ = ['../cps/_base_/cityscapes.py', '../_base_/lists/cityscapes_1-2.py', './method.py']
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['semi_train_cfg'].update(  # 3 epochs, as in TorchSemiSeg
    dc_ramp_iters=3 * _base_.num_unlabeled // _base_.images_per_step)
optim_wrapper = _base_.method_optim
default_hooks = _base_.method_hooks
