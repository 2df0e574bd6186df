# 400 iterations more, from the study's supervised networks (tools/ladder.py --start): what a method
# makes of the unlabelled images, with no room for the luck of a beginning.
_base_ = '../camvid_1-8.py'
optim_wrapper = dict(optimizer=dict(lr=3e-4))
warm_up = dict(warmup_iters=0, ramp_iters=0)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=400, by_epoch=False)]
train_cfg = dict(max_iters=400, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=400))
