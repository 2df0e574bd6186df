# U2PL's release on Cityscapes, where it differs from ours: its network, one rate for backbone and
# head, an auxiliary head, a smaller contrast. Crops, OHEM, schedule, sliding window are ours too.
_base_ = ['../../_base_/data/cityscapes.py', './network.py']
model = _base_.network
weights = dict(contrast_weight=0.125, auxiliary_loss=True)  # for leaves: of semi_train_cfg
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True)))
