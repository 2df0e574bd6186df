# What FixMatch adds to a supervised config: confident labels of the weak view teach a strong one.
# Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: FixMatchTrainCfg in mmseg_esl/methods/fixmatch.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='FixMatch',
    strong_view=dict(type='KorniaStrongView'),
    semi_train_cfg=dict(
        labels_by='student',  # or: teacher, its moving average
        threshold=0.95,
        supervised_weight=0.5,
        unlabeled_weight=0.5,
        cutmix='image',
        cutmix_prob=0.5))
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
