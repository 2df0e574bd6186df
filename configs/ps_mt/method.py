# What PS-MT adds to a supervised config: two averages that follow in turn, and noise on features.
# Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: PSMTTrainCfg in mmseg_esl/methods/ps_mt.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='PSMT',
    strong_view=dict(type='KorniaStrongView'),
    semi_train_cfg=dict(
        unlabeled_weight=1.5,
        threshold=0.6,
        top_logits=7,
        vat_radius=2.0,
        xi=0.1,  # the release's: 1e-6
        ramp_shape='cosine',
        ema_momentum=0.996,
        ema_schedule='constant',
        cutmix='beta'),
    semi_test_cfg=dict(predict_on='teacher'))  # or: both, in tools/test.py
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
