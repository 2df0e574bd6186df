# The demo's baseline: the labelled images alone. Its average is scored beside it, for what an
# average alone brings.
_base_ = ['./_base_/fast.py', '../../supervised/method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['semi_train_cfg'].update(average=True)
train_dataloader = _base_.labeled_only
default_hooks = _base_.method_hooks
