# ESL on the demo's images: the recipe of supervised.py, and as many unlabelled images in a batch as
# labelled ones. The backbone starts from nothing, so training begins supervised only, parts are
# found after that, and the two unsupervised terms then rise to the paper's weights.
_base_ = './supervised.py'
warmup_iters = 400

model = dict(semi_train_cfg=dict(
    variant='dsl+ctr', warmup_iters=warmup_iters, ramp_iters=400))
train_dataloader = dict(
    batch_size=16, batch_sampler=dict(num_labeled=8, num_unlabeled=8))
custom_hooks = _base_.custom_hooks
custom_hooks[1].update(begin=warmup_iters)  # PartInitHook
