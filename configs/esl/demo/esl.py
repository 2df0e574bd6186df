# ESL on the demo's images. The backbone starts from nothing, so training begins supervised only,
# parts are found after that, and the two unsupervised terms then rise to the paper's weights.
_base_ = ['./_base_/drawn.py', '../method.py']
warmup_iters = 400

model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
model['projector'].update(channels=64)  # 512 would be out of proportion here
model['semi_train_cfg'].update(warmup_iters=warmup_iters, ramp_iters=400)
default_hooks = _base_.method_hooks
default_hooks['parts'].update(begin=warmup_iters)
