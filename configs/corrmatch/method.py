# What CorrMatch adds to a supervised config: confident labels of the weak view, spread over regions
# that correlate, and a second prediction by correlation.
# Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: CorrMatchTrainCfg in mmseg_esl/methods/corrmatch.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='CorrMatch',
    strong_view=dict(type='KorniaStrongView'),
    correlation=dict(type='CorrelationHead', channels=256, dropout_ratio=0.1),
    semi_train_cfg=dict(
        threshold=0.85,  # at the start
        threshold_momentum=0.999,
        num_regions=128,
        supervised_weight=0.25,
        labeled_correlation_weight=0.25,
        unlabeled_weight=0.5,  # times the four weights below
        strong_weight=0.25,
        kl_weight=0.25,
        feature_weight=0.25,
        correlation_weight=0.25,
        feature_drop=0.5,
        cutmix='image',
        cutmix_prob=0.5))
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
