# ... and what each method makes of that network in 500 iterations more, at half the rate; for
# tools/ladder.py --start.
_base_ = './camvid_1-16.py'
max_iters = 500
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
warm_up = dict(warmup_iters=0, ramp_iters=100)  # the teacher has learnt already
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
