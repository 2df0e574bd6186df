# PS-MT, DeepLabV3+ ResNet-50, Cityscapes with 372 of 2975 images labelled.
# As quoted in ESL's tables: 75.76 mIoU.
_base_ = ['./_base_/cityscapes.py', '../_base_/lists/cityscapes_1-8.py', './method.py']
epoch = _base_.num_unlabeled // _base_.images_per_step
train_cfg = dict(max_iters=320 * epoch)
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['semi_train_cfg'].update(_base_.weights, epoch_iters=epoch, ramp_iters=12 * epoch,
    warmup_iters=5 * _base_.num_labeled // _base_.images_per_step)
default_hooks = _base_.method_hooks
