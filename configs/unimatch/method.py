# What UniMatch adds to a supervised config: two strong views, and perturbed features.
# Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: UniMatchTrainCfg in mmseg_esl/methods/unimatch.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='UniMatch',
    strong_view=dict(type='KorniaStrongView'),
    semi_train_cfg=dict(
        labels_by='student',  # or: teacher, its moving average
        threshold=0.95,
        supervised_weight=0.5,
        unlabeled_weight=0.5,
        strong_weights=(0.25, 0.25),
        feature_weight=0.5,
        feature_drop=0.5,
        cutmix='image',
        cutmix_prob=0.5))
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
