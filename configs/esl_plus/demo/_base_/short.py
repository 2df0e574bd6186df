# The drawn images in three quarters of the iterations, in a faster layout of memory.
_base_ = '../../../esl/demo/_base_/drawn.py'
max_iters = 1500
param_scheduler = [
    dict(type='LinearLR', start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=30, end=max_iters, by_epoch=False),
]
# one process a training: two trainings and their workers are more than two cores do at a time
train_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
custom_hooks = [
    dict(type='PseudoLabelAuditHook', interval=500, max_images=24), dict(type='ChannelsLastHook')]
