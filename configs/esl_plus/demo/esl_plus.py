# ESL+ on the demo's images. The backbone starts from nothing, so training begins supervised only,
# and the unlabelled images' weight then rises.
_base_ = ['./_base_/short.py', '../method.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
# Drawn images bear more than photographs do: with weight 1 the gain is greater (recipe.md).
model['semi_train_cfg'].update(warmup_iters=300, ramp_iters=300, sce_weight=1.0)
default_hooks = _base_.method_hooks
