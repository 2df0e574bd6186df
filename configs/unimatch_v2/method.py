# What UniMatch V2 adds to a supervised config: a moving average whose confident labels teach two
# strong views, which lose complementary channels.
# Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: UniMatchV2TrainCfg in mmseg_esl/methods/unimatch_v2.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='UniMatchV2',
    strong_view=dict(type='KorniaStrongView'),
    semi_train_cfg=dict(
        threshold=0.95,
        supervised_weight=0.5,
        unlabeled_weight=0.5,
        clean_share=0.5,  # images whose channels all stay, in both views
        ema_momentum=0.996,
        cutmix='image',
        cutmix_prob=0.5,
        cutmix_partner='flip'))
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
